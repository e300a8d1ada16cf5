/* Draws the plots of the page with uPlot: one function for each kind in figures.py. */
"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  const TAIL = { y: 0.14, iqr: 0.26 };

  /* Numbers as people read them. */
  const plain = (v) => {
    const size = Math.abs(v);
    if (size !== 0 && (size >= 1e7 || size < 1e-4)) return v.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
    return size >= 1e4 ? Math.round(v).toLocaleString("en-US") : String(Number(v.toPrecision(4)));
  };
  const scaled = (v, units, factor) => {
    let at = 0;
    while (Math.abs(v) >= factor && at < units.length - 1) { v /= factor; at += 1; }
    return `${Number(v.toPrecision(3))} ${units[at]}`;
  };
  const seconds = (v) => {
    if (Math.abs(v) < 120 && v !== 60) return `${Number(v.toPrecision(3))} s`;
    const [h, m, s] = [Math.floor(v / 3600), Math.floor((v % 3600) / 60), Math.floor(v % 60)];
    const parts = h ? [`${h} h`, m && `${m} min`] : [`${m} min`, s && `${s} s`];
    return parts.filter(Boolean).join(" ");
  };
  const day = (v) => new Date(v * 1e3).toISOString().replace("T00:00:00.000Z", "").replace(/:00\.000Z$/, "").replace("T", " ");
  const WRITTEN = { number: plain, bytes: (v) => scaled(v, ["B", "KiB", "MiB", "GiB", "TiB"], 1024), seconds,
    share: (v) => `${Number((100 * v).toPrecision(3))} %`, time: day };
  const written = (axis, v) => (v == null ? "–" : axis.unit === "name" ? axis.names[Math.round(v)] ?? "" : WRITTEN[axis.unit](v));

  /* Steps of an axis that are round in its unit. */
  const STEPS = {
    bytes: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].flatMap((n) => [0, 10, 20, 30, 40].map((p) => n * 2 ** p)).sort((a, b) => a - b),
    seconds: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400,
      21600, 43200, 86400, 172800, 604800],
    name: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
  };
  const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7, 8].flatMap((p) => [1, 2, 5].map((n) => n * 10 ** p));
  const measure = document.createElement("canvas").getContext("2d");
  const width_of = (text) => { measure.font = FONT; return measure.measureText(text).width; };
  const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  const axis_of = (axis, side, is_whole = false) => {
    const is_up = side === 3;
    const found = {
      side, stroke: css("--faint"), font: FONT, labelFont: FONT, label: cut(axis.label, 60), labelSize: 18, labelGap: 2,
      grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1, size: 4 }, gap: 4,
      size: is_up ? (u, shown) => 12 + Math.min(110, Math.max(24, ...(shown ?? []).map((each) => width_of(each ?? "")))) : 26,
    };
    found.values = (u, at, _axis, _space, step) => at.map((v) => label_at(axis, v, is_up, step));
    if (axis.unit === "time") found.space = 96;
    if (STEPS[axis.unit]) found.incrs = STEPS[axis.unit];
    if (is_whole) found.incrs = WHOLE;
    if (axis.unit === "bytes" || axis.unit === "seconds") found.space = is_up ? 34 : 76;
    if (axis.unit === "name" && !is_up) {
      const widest = Math.max(30, ...axis.names.map((each) => width_of(cut(each, 14))));
      found.space = widest + 14;
    }
    if (axis.unit === "name") found.grid.show = false;
    return found;
  };
  const label_at = (axis, v, is_up, step) => {
    if (axis.unit === "time") return step >= 86400 ? day(v).slice(0, 10) : day(v).slice(5);
    if (axis.unit !== "name") return written(axis, v);
    return Number.isInteger(v) && axis.names[v] !== undefined ? cut(axis.names[v], is_up ? 16 : 14) : "";
  };

  /* A plot in a figure: axes, size, and a line of text about what the pointer is at. */
  const frame = (figure, spec, given) => {
    const box = figure.querySelector(".plot") ?? figure.appendChild(Object.assign(document.createElement("div"), { className: "plot" }));
    const said = figure.querySelector(".said") ?? figure.appendChild(Object.assign(document.createElement("div"), { className: "said" }));
    box.replaceChildren();
    const width = () => Math.max(120, Math.floor(box.clientWidth));
    const height = given.height ?? (figure.classList.contains("small") ? 230 : width() < 600 ? 260 : 340);
    const chart = new uPlot({
      width: width(), height, legend: { show: false }, padding: [10, 14, 0, 2],
      tzDate: (s) => uPlot.tzDate(new Date(s * 1e3), "UTC"),
      cursor: { points: { show: false }, drag: { x: true, y: false }, y: given.has_y ?? false, ...given.cursor },
      scales: { x: { time: spec.x_axis.unit === "time", ...given.x }, y: { ...given.y } },
      axes: [axis_of(spec.x_axis, 2, given.is_whole), axis_of(spec.y_axis, 3)],
      series: [{}, ...given.series],
      bands: given.bands,
      hooks: {
        draw: given.paint ? [(u) => clipped(u, given.paint)] : [],
        setCursor: [(u) => {
          const { left, top, idx } = u.cursor;
          const is_there = left != null && left >= 0 && top >= 0;
          given.tell(u, is_there ? { x: u.posToVal(left, "x"), y: u.posToVal(top, "y"), left, top, idx } : null, said);
        }],
      },
    }, given.data, box);
    given.tell(chart, null, said);
    new ResizeObserver(() => {
      if (chart.root.isConnected && width() !== chart.width) chart.setSize({ width: width(), height });
    }).observe(box);
    return chart;
  };
  const clipped = (u, paint) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    paint(u, ctx, (v) => u.valToPos(v, "x", true), (v) => u.valToPos(v, "y", true), devicePixelRatio || 1);
    ctx.restore();
  };
  const nothing = { paths: () => null, points: { show: false } };
  const rgba = (color, alpha) => {
    const n = parseInt(color.slice(1), 16);
    return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
  };
  const padded = (low, high) => { const pad = (high - low || Math.abs(high) || 1) * 0.04; return [low - pad, high + pad]; };
  const from_zero = (u, low, high) => {
    if (low == null) return [0, 1];
    const pad = (high - low || Math.abs(high) || 1) * 0.05;
    return low >= 0 && low < 0.6 * high ? [0, high + pad] : [low - pad, high + pad];
  };

  const keys_of = (figure, names, colors, toggle, heading = "") => {
    figure.querySelector(".keys")?.remove();
    const keys = Object.assign(document.createElement("div"), { className: "keys" });
    keys.textContent = heading;
    const labels = names.map((name, at) => {
      const key = Object.assign(document.createElement("button"), { type: "button" });
      const swatch = document.createElement("i");
      swatch.style.background = colors[at];
      const text = document.createElement("span");
      text.textContent = name;
      key.append(swatch, text);
      if (toggle) {
        key.setAttribute("aria-pressed", "true");
        key.onclick = () => {
          const is_shown = key.getAttribute("aria-pressed") !== "true";
          key.setAttribute("aria-pressed", String(is_shown));
          toggle(at, is_shown);
        };
      } else key.style.cursor = "default";
      keys.append(key);
      return text;
    });
    const said = figure.querySelector(".said");
    if (said) figure.insertBefore(keys, said); else figure.append(keys);
    return labels;
  };

  const DRAW = {
    Fan(figure, spec) {
      const choose = (number) => {
        const view = spec.views[number];
        const is_one = view.bands.length === 1;
        const bands = is_one && view.bands[0].name !== spec.all.name ? [spec.all, ...view.bands] : view.bands;
        const colors = bands.length < view.bands.length + 1 ? level_colors(bands.length) : [css("--behind"), css("--one")];
        const series = [], fills = [], data = [spec.x];
        bands.forEach((band, at) => {
          const first = data.length;
          data.push(...band.quantiles);
          [0, 1, 2, 3, 4].forEach((q) => series.push({
            stroke: q === 2 ? colors[at] : "transparent", width: q === 2 ? 2 : 0, points: { show: spec.x.length < 2, size: 7 }, spanGaps: false,
          }));
          fills.push({ series: [first + 4, first], fill: rgba(colors[at], TAIL.y) }, { series: [first + 3, first + 1], fill: rgba(colors[at], TAIL.iqr) });
        });
        let labels = null;
        const tell = (u, at, said) => {
          if (!labels) return;
          const i = at?.idx;
          said.textContent = [i == null ? "" : `${spec.x_axis.label} ${written(spec.x_axis, spec.x[i])}`, view.note].filter(Boolean).join(" · ");
          bands.forEach((band, n) => {
            const [low, , middle, , high] = band.quantiles.map((each) => (i == null ? null : each[i]));
            labels[n].textContent = middle == null ? band.name : `${band.name}: ${plain(middle)} (${plain(low)} – ${plain(high)})`;
          });
        };
        const is_whole = spec.x_axis.unit === "number" && spec.x.every(Number.isInteger);
        const chart = frame(figure, spec, { data, series, bands: fills, y: { range: from_zero }, tell, is_whole });
        labels = keys_of(figure, bands.map((band) => band.name), colors, (at, show) => {
          for (let q = 0; q < 5; q += 1) chart.setSeries(1 + 5 * at + q, { show });
        });
        tell(chart, null, figure.querySelector(".said"));
      };
      let picked = figure.querySelector("select");
      if (!picked && spec.views.length > 1) {
        const label = Object.assign(document.createElement("label"), { textContent: "Shown: " });
        picked = document.createElement("select");
        let group = null;
        spec.views.forEach((view, number) => {
          if (group?.label !== view.group) picked.append((group = Object.assign(document.createElement("optgroup"), { label: view.group })));
          group.append(new Option(view.name, number));
        });
        picked.onchange = () => choose(Number(picked.value));
        label.append(picked);
        figure.append(label);
      }
      choose(Number(picked?.value ?? 0));
    },

    Points(figure, spec) {
      const color = css("--one");
      const has_range = spec.low.length > 0;
      const shades = level_colors(spec.shades.length);
      const all_y = [...spec.y, ...spec.low, ...spec.high].filter((v) => v != null);
      const x_range = spec.x_axis.unit === "name" ? [-0.5, spec.x_axis.names.length - 0.5] : padded(Math.min(...spec.x), Math.max(...spec.x));
      const paint = (u, ctx, x, y, ratio) => {
        if (spec.has_diagonal) {
          const top = Math.max(u.scales.x.max, u.scales.y.max);
          ctx.strokeStyle = css("--behind");
          ctx.lineWidth = ratio;
          ctx.setLineDash([5 * ratio, 4 * ratio]);
          ctx.beginPath();
          ctx.moveTo(x(0), y(0));
          ctx.lineTo(x(top), y(top));
          ctx.stroke();
          ctx.setLineDash([]);
        }
        const many = spec.x.length > 150;
        const size = (many ? 2.4 : 3.4) * ratio;
        const color_of = (i) => (spec.shades.length ? shades[spec.shade[i]] ?? css("--behind") : color);
        ctx.lineWidth = ratio;
        if (has_range) spec.x.forEach((v, i) => {
          ctx.strokeStyle = rgba(color_of(i), many ? 0.22 : 0.45);
          ctx.beginPath();
          ctx.moveTo(x(v), y(spec.low[i]));
          ctx.lineTo(x(v), y(spec.high[i]));
          ctx.stroke();
        });
        spec.x.forEach((v, i) => {
          ctx.fillStyle = rgba(color_of(i), many ? 0.65 : 0.9);
          ctx.beginPath();
          ctx.arc(x(v), y(spec.y[i]), size, 0, 7);
          ctx.fill();
        });
      };
      const tell = (u, at, said) => {
        let best = -1, least = 900;
        if (at) spec.x.forEach((v, i) => {
          const far = (u.valToPos(v, "x") - at.left) ** 2 + (u.valToPos(spec.y[i], "y") - at.top) ** 2;
          if (far < least) { least = far; best = i; }
        });
        const range = has_range && best >= 0 ? ` (${written(spec.y_axis, spec.low[best])} – ${written(spec.y_axis, spec.high[best])})` : "";
        const which = [`${spec.x_axis.label} ${written(spec.x_axis, spec.x[best])}`, spec.shades.length && `${spec.shaded_by} ${spec.shades[spec.shade[best]]}`].filter(Boolean).join(", ");
        said.textContent = best < 0 ? "" : `${which}: ${written(spec.y_axis, spec.y[best])}${range}`;
      };
      const low = spec.has_diagonal ? 0 : Math.min(...all_y);
      frame(figure, spec, {
        data: [[x_range[0], x_range[1]], [low, Math.max(...all_y)]], series: [nothing], paint, tell, has_y: true,
        x: { range: (u, a, b) => (spec.has_diagonal ? [0, b] : [a, b]) }, y: { range: from_zero },
      });
      if (spec.shades.length) keys_of(figure, spec.shades, shades, null, spec.shaded_by);
    },

    Bars(figure, spec) {
      const n = spec.x_axis.names.length;
      const tops = spec.x_axis.names.map((_, i) => spec.stacks.reduce((sum, stack) => sum + stack.y[i], 0));
      const is_count = spec.y_axis.unit !== "share";
      const colors = spec.stacks.map((_, at) => css(is_count ? "--one" : `--cause-${Math.min(at, 5)}`));
      const paint = (u, ctx, x, y) => {
        const wide = (x(1) - x(0)) * (n > 12 ? 0.86 : 0.7);
        for (let i = 0; i < n; i += 1) {
          let below = 0;
          spec.stacks.forEach((stack, at) => {
            ctx.fillStyle = colors[at];
            ctx.fillRect(x(i) - wide / 2, y(below + stack.y[i]), wide, y(below) - y(below + stack.y[i]));
            below += stack.y[i];
          });
        }
      };
      const tell = (u, at, said) => {
        const i = at ? Math.round(at.x) : -1;
        const parts = spec.stacks.filter((stack) => stack.y[i] > 0).map((stack) => `${stack.name} ${written(spec.y_axis, stack.y[i])}`);
        said.textContent = i < 0 || i >= n ? "" : `${spec.x_axis.label} ${spec.x_axis.names[i]}: ${parts.join(", ") || "none"} of ${plain(spec.totals[i])}`;
      };
      frame(figure, spec, {
        data: [[-0.5, n - 0.5], [0, Math.max(...tops)]], series: [nothing], paint, tell,
        x: { range: () => [-0.5, n - 0.5] }, y: { range: (u, low, high) => [0, (is_count ? high * 1.08 : Math.min(1, high * 1.08)) || 1] },
      });
      if (!is_count) keys_of(figure, spec.stacks.map((stack) => stack.name), colors);
    },

    HeatMap(figure, spec) {
      const columns = spec.x_axis.names.length, rows = spec.y_axis.names.length;
      const most = Math.max(0.001, ...spec.shares.flat().map((v) => v ?? 0));
      const paint = (u, ctx, x, y, ratio) => {
        const gap = Math.min(columns, rows) > 30 ? 0 : ratio;
        spec.shares.forEach((row, j) => row.forEach((share, i) => {
          if (share == null) return;
          ctx.fillStyle = share ? `rgba(${css("--heat")}, ${0.12 + 0.88 * share / most})` : css("--grid");
          ctx.fillRect(x(i - 0.5) + gap / 2, y(j + 0.5) + gap / 2, x(i + 0.5) - x(i - 0.5) - gap, y(j - 0.5) - y(j + 0.5) - gap);
        }));
      };
      const tell = (u, at, said) => {
        const i = at ? Math.round(at.x) : -1, j = at ? Math.round(at.y) : -1;
        const share = spec.shares[j]?.[i];
        said.textContent = share == null ? "" : `${spec.x_axis.label} ${spec.x_axis.names[i]}, ${spec.y_axis.label} ${spec.y_axis.names[j]}: ` +
          `${Math.round(share * spec.totals[j][i])} of ${spec.totals[j][i]}`;
      };
      frame(figure, spec, {
        data: [[-0.5, columns - 0.5], [-0.5, rows - 0.5]], series: [nothing], paint, tell, has_y: true, height: 280,
        x: { range: () => [-0.5, columns - 0.5] }, y: { range: () => [-0.5, rows - 0.5] },
      });
    },

    Lines(figure, spec) {
      const colors = spec.lines.length > 1 ? [css("--level-4"), rgba(css("--level-4"), 0.55), css("--one"), rgba(css("--one"), 0.55)] : [css("--one")];
      const stepped = uPlot.paths.stepped({ align: 1 });
      const series = spec.lines.map((line, at) => ({ stroke: colors[at], width: at % 2 ? 1 : 1.6, paths: stepped, points: { show: spec.x.length < 2, size: 6 },
        fill: spec.lines.length === 1 ? rgba(colors[0], 0.2) : undefined }));
      const tell = (u, at, said) => {
        const i = at?.idx;
        said.textContent = i == null ? "" : `${written(spec.x_axis, spec.x[i])}: ${spec.lines.map((line) => `${line.name} ${written(spec.y_axis, line.y[i])}`).join(", ")}`;
      };
      const height = figure.classList.contains("small") ? 230 : 170;
      frame(figure, spec, { data: [spec.x, ...spec.lines.map((line) => line.y)], series, tell, height, y: { range: (u, low, high) => [0, (high || 1) * 1.08] } });
      if (spec.lines.length > 1) keys_of(figure, spec.lines.map((line) => line.name), colors);
    },

    Spans(figure, spec) {
      const n = spec.y_axis.names.length;
      const end_s = Math.max(...spec.start.map((s, i) => s + spec.length[i])) / 1e3;
      const colors = spec.kinds.map((_, at) => css(`--kind-${at}`));
      const paint = (u, ctx, x, y, ratio) => {
        const high = (y(0) - y(1)) * (n > 20 ? 0.9 : 0.72);
        [0, 1, 2].forEach((kind) => {
          ctx.fillStyle = colors[kind];
          spec.start.forEach((s, i) => {
            if (spec.what[i] !== kind) return;
            const left = x(s / 1e3), right = x((s + spec.length[i]) / 1e3);
            const gap = right - left > 3 * ratio ? 0.5 * ratio : 0;
            ctx.fillRect(left, y(spec.slot[i]) - high / 2, Math.max(right - left - gap, kind ? 1.5 * ratio : 0.6 * ratio), high);
          });
        });
      };
      const tell = (u, at, said) => {
        const slot = at ? Math.round(at.y) : -1;
        const i = at ? spec.start.findIndex((s, k) => spec.slot[k] === slot && s <= at.x * 1e3 && at.x * 1e3 <= s + spec.length[k]) : -1;
        said.textContent = !at || slot < 0 || slot >= n ? "" : `${spec.y_axis.names[slot]} at ${seconds(at.x)}: ` +
          (i < 0 ? "nothing runs" : `${spec.kinds[spec.what[i]]}, ${seconds(spec.length[i] / 1e3)}`);
      };
      frame(figure, spec, {
        data: [[0, end_s], [-0.5, n - 0.5]], series: [nothing], paint, tell, has_y: true, height: Math.min(760, 70 + n * Math.max(10, 34 - n)),
        y: { dir: -1, range: () => [-0.5, n - 0.5] },
      });
      keys_of(figure, spec.kinds, colors);
    },
  };
  const level_colors = (n) => Array.from({ length: n }, (_, at) => css(`--level-${n > 1 ? Math.round((at * 4) / (n - 1)) : 0}`));

  const draw = () => {
    const begun = performance.now();
    for (const figure of document.querySelectorAll("figure[data-plot]")) {
      const spec = plots[figure.dataset.plot];
      DRAW[spec.kind](figure, spec);
    }
    document.documentElement.dataset.drawn = document.querySelectorAll("figure canvas").length;
    document.documentElement.dataset.drawnMs = Math.round(performance.now() - begun);
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
