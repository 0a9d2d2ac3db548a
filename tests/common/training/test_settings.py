import pytest

from rlkl_htc_common.training.settings import cpu_precision

FLAGS = {
    "flags\t\t: fpu avx2 avx512f avx512_bf16 fsrm": "bf16",
    "flags\t\t: fpu avx512_bf16\n\nprocessor : 1\nflags : fpu avx512_bf16": "bf16",
    "flags\t\t: fpu avx2 avx512f avx512_vnni": "fp32",
    "flags\t\t: fpu avx512_bf16x": "fp32",
    "Features\t: fp asimd bf16": "fp32",
    "": "fp32",
}


@pytest.mark.parametrize("listed", FLAGS)
def test_a_cpu_trains_in_bf16_where_it_has_the_instructions(listed, tmp_path):
    (tmp_path / "cpuinfo").write_text(listed)
    assert cpu_precision(str(tmp_path / "cpuinfo")) == FLAGS[listed]


def test_a_system_that_lists_no_instructions_trains_in_fp32(tmp_path):
    assert cpu_precision(str(tmp_path / "cpuinfo")) == cpu_precision(str(tmp_path)) == "fp32"
