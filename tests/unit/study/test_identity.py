"""Identifiers and derived seeds equal those of ModelOps to the bit."""

import json

import pytest

from modelops_ray.study.identity import derived_seed, param_id, task_id

GOLDEN = [
    ("{}", "02a98351d516148f91f93bb0ce4b4cb6468cb40e04263fb6f257e9ba37365b44", (2690899935, 2234493881, 3682843360)),
    (
        '{"beta":0.5,"gamma":0.1}',
        "4dcc7ab13573314d32533202b02f34a316bfb06c4155cb84f7cad4908a22f85e",
        (3339843738, 104683033, 2701143075),
    ),
    (
        '{"gamma":0.1,"beta":0.5}',
        "4dcc7ab13573314d32533202b02f34a316bfb06c4155cb84f7cad4908a22f85e",
        (3339843738, 104683033, 2701143075),
    ),
    (
        '{"x":1}',
        "4560ff738e380536d589079a5e24b30713f9257440dfb2f0134f7350c0985942",
        (3407198642, 3088536263, 1235208134),
    ),
    (
        '{"x":1.0}',
        "3f1b615cf1dab4bfd2505c195f18fe8d70035f80beb5b0056c93844204158684",
        (66968601, 378167024, 2558640354),
    ),
    (
        '{"x":true}',
        "a946ed8442ddbc069a69ef6288f455850a8fb2d25937c632930c5dcea78a7046",
        (2671962292, 872819760, 535402183),
    ),
    (
        '{"x":-0.0}',
        "e69ec3a1fe2a767af4e8d1b8b24b1819d6cb92ff03342e7dde723566f80ea36f",
        (2976079305, 3216147059, 2735989715),
    ),
    (
        '{"x":0.0}',
        "246dd4fa2ad31c65d54a3a183efbee0d4e69237db1218ea3cf3e2a716b29ddc5",
        (2946929788, 1502493342, 1288463326),
    ),
    (
        '{"x":1e-07}',
        "adbf9eb5c4904a62f82c73e42db7e6237d69224bed96952a2832601602c69fa3",
        (534440641, 3880380390, 1720606791),
    ),
    (
        '{"x":1e+22}',
        "1670e2c48ae7017bb89e4234189452fc5736487d279a1b8c4f42873ca4ce22c9",
        (3683019031, 1270474357, 4082421861),
    ),
    (
        '{"x":1e+16}',
        "fdf63215605c10f64a9d6b34203d5e36bddc2c0f65c2c5602f9d7e6acb6e3933",
        (1525968466, 2625651049, 2483656743),
    ),
    (
        '{"x":9223372036854775808}',
        "3738d160b47ff3bd26a38a8ce86ede6d75a163a40b55a7385b780057f3e991f5",
        (195666935, 2277273288, 4031417601),
    ),
    (
        '{"z":0.30000000000000004}',
        "b7065c5cc931f5f64607f8c1fef6c7ad5fcabf0aa64a651f5b1268aa6daf75a8",
        (2630032105, 363309623, 2325466654),
    ),
    (
        '{"x":"é"}',
        "9a2d50bd7371aca6d81b117cdeade41bb5d185168afe91421cf35dff8aa21fde",
        (2873735065, 1443212891, 1360589092),
    ),
    (
        '{"b":2,"a":"q"}',
        "b539d38251a7448d05ed19f8124663e6c29f0722fadb7eb45342043652d1bd6f",
        (3154275470, 2371054267, 10154223),
    ),
    (
        '{"beta":0.08,"dur_inf":5.0}',
        "505e80d0b9e828d62c30ebc0dfe5566a56ae769f27897cdab7791356ae311950",
        (1329704202, 1178940121, 720726679),
    ),
    (
        '{"beta":0.08,"dur_inf":5}',
        "9004ab7c813afdafa50d56013208fd2d42012a3868f7fbb1fc2fdc18541cea78",
        (457845763, 74672899, 1278059679),
    ),
    (
        '{"beta":0.1,"dur_inf":4.0}',
        "299466df957e3854b4127752cb22edd68e28cc4c650852f0d3f4baa27e934990",
        (2896634729, 4086221288, 2818304122),
    ),
]


@pytest.mark.parametrize(("text", "identifier", "seeds"), GOLDEN)
def test_a_parameter_set_has_the_identifier_of_modelops(text, identifier, seeds):
    """The id is the hash of the parameters as the file spells them."""
    assert identifier == param_id(json.loads(text))


@pytest.mark.parametrize(("text", "identifier", "seeds"), GOLDEN)
def test_a_set_without_a_seed_has_the_derived_seeds_of_modelops(text, identifier, seeds):
    """Derived seeds depend on the id and the replicate alone."""
    assert seeds == tuple(derived_seed(identifier, index) for index in range(3))


def test_a_seed_is_derived_from_any_text_as_identifier():
    """The recipe hashes the identifier as text, so it does not have to be a digest."""
    assert (1714473155, 1375455281, 1149960579) == tuple(derived_seed("abc123", index) for index in range(3))


@pytest.mark.parametrize(
    ("bundle_ref", "entrypoint", "identifier", "seed", "expected"),
    [
        (
            "sha256:6bbffeea20eb0badfc5051c023e74dafb0f8537f524ee30c7fdc94ddbe5d46b2",
            "models.sir/baseline",
            "505e80d0b9e828d62c30ebc0dfe5566a56ae769f27897cdab7791356ae311950",
            1329704202,
            "ba8a3fd895164ec15aaa2e6dd18c3f51",
        ),
        ("sha256:00", "sir.py:simulate/baseline", "abc123", 2**64 - 1, "e24add24a62e5650fb932e28be7d8486"),
    ],
)
def test_a_task_is_named_by_all_that_decides_its_result(bundle_ref, entrypoint, identifier, seed, expected):
    """The expected values are what `b2sum -l 128` says of the fields joined by bars."""
    assert expected == task_id(bundle_ref, entrypoint, identifier, seed)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_spell_has_no_identifier(value):
    """A value that slipped past the checks is an error, never a hash of something else."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        param_id({"x": value})
