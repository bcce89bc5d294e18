#!/usr/bin/env python3
"""Check what the compiler made of the kernels: tools/check_isa.py FILE ...

FILEs are x86-64 objects or libraries with a symbol table (build/libannex.so), made by GCC at -O3 as
the build does. In each:
  1. A function uses only instructions of the table it belongs to, which its prefix names (avx2_,
     avx512_, vnni_); every other function runs on any x86-64.
  2. A row kernel prefetches, and all lines of a row: compilers have been seen to keep the first.
  3. A kernel spills no vector register.
Prints a line for each finding and one line at the end. Fails when there is a finding, or when a
kernel that should be there is not.
"""

import re
import subprocess
import sys

# What an instruction needs, from the highest level on; 0 is every x86-64.
LEVELS = [
    ("BMI, AMX or half precision", 9, r"\b(andn|bextr|bls[ir]|blsmsk|bzhi|mulx|pdep|pext|rorx|sarx|"
     r"shlx|shrx|lzcnt|adcx|adox|tdp\w+|tile\w+|vpopcnt[bw]|v\w+ph)\b"),
    ("VNNI or VPOPCNTDQ", 3, r"\b(vpdp\w+|vpopcnt[dq])\b"),
    ("AVX-512", 2, r"%zmm|%k[0-7]\b|%[xy]mm(1[6-9]|2\d|3[01])\b"),
    ("AVX2", 1, r"^v(?!er)\w+|%ymm|^popcnt"),
    ("SSE3 to SSE4", 1, r"^(pshufb|palignr|pabs[bwd]|ph(add|sub)\w+|pmaddubsw|pmulhrsw|psign[bwd]|"
     r"pblend\w+|blend\w+|ptest|pmulld|pmuldq|p(min|max)(sb|sd|uw|ud)|p(insr|extr)[bdq]|"
     r"insertps|extractps|dpp[sd]|round[ps][sd]|pcmp(eq|gt)q|pmov[sz]x\w+|packusdw|crc32\w*|"
     r"movbe|h(add|sub)p[sd]|addsubp[sd]|lddqu|movddup|movs[hl]dup)\b"),
]
LEVELS = [(name, level, re.compile(pattern)) for name, level, pattern in LEVELS]
PREFIXES = {"avx2_": 1, "avx512_": 2, "vnni_": 3}

ROW_KERNEL = re.compile(r"^(avx2|avx512|vnni)_(q8_dot|q8_l1|bits_xor|bits_and)$")
ROW_KERNELS = 11  # vnni_ has no q8_l1 of its own
SPILL = re.compile(r"^vmov.*%[yz]mm\d+,.*\(%r[sb]p|^vmov.*\(%r[sb]p.*,%[yz]mm")
LINE_BYTES = 64


def functions_of(path):
    """Yields (name, [(address, instruction)]) for each function."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout
    for chunk in re.split(r"\n(?=[0-9a-f]+ <)", listing):
        head = re.match(r"[0-9a-f]+ <([^>]+)>:", chunk)
        if head:
            code = re.findall(r"^\s*([0-9a-f]+):\t(.+?)\s*$", chunk, re.MULTILINE)
            yield head.group(1), [(int(address, 16), text) for address, text in code]


def allowed_level(function):
    return next((level for prefix, level in PREFIXES.items() if function.startswith(prefix)), 0)


def foreign_instruction(function, code):
    allowed = allowed_level(function)
    for _, text in code:
        for name, level, pattern in LEVELS:
            if level > allowed and pattern.search(text):
                return f"uses {name}: {text}"
    return None


def walks_lines(code, at):
    """Whether the prefetch at this place is in a loop that steps by a line."""
    stepped = False
    for address, text in code[at + 1 : at + 8]:
        stepped = stepped or re.match(rf"(add\w*\s+\$0x{LINE_BYTES:x}|sub\w*\s+\$0x[f]+c0),", text)
        jump = re.match(r"j[a-z]+\s+([0-9a-f]+)", text)
        if jump:
            return bool(stepped) and int(jump.group(1), 16) <= code[at][0]
    return False


def shrunk_prefetch(function, code):
    if not ROW_KERNEL.match(function):
        return None
    places = [i for i, (_, text) in enumerate(code) if text.startswith("prefetch")]
    if not places:
        return "does not prefetch"
    for at in places:
        near = [text for _, text in code[max(0, at - 12) : at + 13] if text.startswith("prefetch")]
        if len(set(near)) < 2 and not walks_lines(code, at):
            return "prefetches one line only"
    return None


def spill(function, code):
    if allowed_level(function):
        for _, text in code:
            if SPILL.match(text):
                return f"spills a vector register: {text}"
    return None


def main(paths):
    findings = functions = row_kernels = 0
    for path in paths:
        for name, code in functions_of(path):
            functions += 1
            row_kernels += bool(ROW_KERNEL.match(name))
            for check in (foreign_instruction, shrunk_prefetch, spill):
                finding = check(name, code)
                if finding:
                    findings += 1
                    print(f"{path}: {name} {finding}")
    print(f"{functions} functions, {row_kernels} row kernels: {findings} findings")
    return 0 if findings == 0 and row_kernels >= ROW_KERNELS else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
