"""What the build leaves behind: exported symbols, needed libraries, the installed library."""

import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, COMMAND, EXTENSION, ROOT

LIBRARY = BUILD / "libannex.so"


def output_of(*command, **options):
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, **options
    ).stdout


def exported_symbols(path):
    lines = output_of("nm", "--dynamic", "--defined-only", path).split("\n")
    symbols = {line.split()[-1].partition("@")[0] for line in lines if line}
    instrumentation = re.compile(r"^(__\w*san_|__start___|__stop___|__gcov|mangle_path|ANNEX_\d)")
    return {name for name in symbols if not instrumentation.match(name)}


def needed_libraries(path):
    return set(re.findall(r"\(NEEDED\).*\[(\w+)[^]]*\]", output_of("readelf", "--dynamic", path)))


def test_extension__exports_only_its_entry_points():
    assert exported_symbols(EXTENSION) == {"sqlite3_annex_init", "sqlite3_annex_vec_init"}


def test_extension__brings_no_second_sqlite():
    assert "libsqlite3" not in needed_libraries(EXTENSION)
    undefined = output_of("nm", "--dynamic", "--undefined-only", EXTENSION)
    assert not re.search(r"\bsqlite3_", undefined)


def test_library__exports_what_the_headers_declare_and_nothing_else():
    headers = "".join(
        (ROOT / "include" / name).read_text() for name in ("annex.h", "annex-engine.h")
    )
    declared = set(re.findall(r"^ANNEX_API [^;(]*?\b(annex_\w+)\(", headers, re.MULTILINE))
    declared.remove("annex_engine_entry")  # of plug-ins
    assert len(declared) > 30
    assert exported_symbols(LIBRARY) == declared


def test_library__has_a_soname_of_its_abi_version():
    assert "[libannex.so.0]" in output_of("readelf", "--dynamic", LIBRARY)


def test_core__needs_nothing_but_libc_and_threads():
    undefined = output_of("nm", "--undefined-only", BUILD / "libannex_core.a")
    assert not re.search(r"\bU (sqlite3_|json_|H5|XXH|GOMP)", undefined)


def test_command__runs_without_the_library_beside_it(tmp_path):
    copy = shutil.copy(COMMAND, tmp_path / "annex")
    assert "0.1.0" in output_of(copy, "--version")


def test_installed_library__compiles_and_links_a_program(tmp_path):
    options = json.loads((BUILD / "meson-info" / "intro-buildoptions.json").read_text())
    values = {option["name"]: option["value"] for option in options}
    instrumented = values["b_sanitize"] != "none" or values["b_coverage"]
    if shutil.which("cc") is None or instrumented:
        pytest.skip("needs a compiler, and a build without instrumentation")
    output_of("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", tmp_path)
    package = next(tmp_path.rglob("annex.pc"))
    environment = dict(
        os.environ,
        PKG_CONFIG_PATH=str(package.parent),
        PKG_CONFIG_SYSROOT_DIR=str(tmp_path),
        LD_LIBRARY_PATH=str(package.parent.parent),
    )
    flags = output_of("pkg-config", "--cflags", "--libs", "annex", env=environment).split()
    source = tmp_path / "program.c"
    source.write_text(
        "#include <annex.h>\n#include <stdio.h>\n"
        "int main(void) { return puts(annex_version()) < 0; }\n"
    )
    for standard in ("-std=c99", "-std=c11"):
        output_of("cc", standard, "-Wall", "-Werror", source, *flags, "-o", tmp_path / "program")
        assert output_of(tmp_path / "program", env=environment).strip() == "0.1.0"


def test_header__is_valid_c_plus_plus(tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    source = tmp_path / "program.cc"
    source.write_text("#include <annex.h>\nint main() { return annex_version() == nullptr; }\n")
    include = ROOT / "include"
    output_of("c++", "-std=c++11", "-Wall", "-Werror", f"-I{include}", "-fsyntax-only", source)
