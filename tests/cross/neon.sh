#!/bin/sh
# neon.sh - compiles the kernels and their test for 64-bit Arm and runs them under qemu-user.
# Prints TAP. Where the tools are missing it skips; on Debian they are gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross and qemu-user.
set -eu
cd "$(dirname "$0")/../.."

for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    if ! command -v "$tool" >/dev/null; then
        printf '1..1\nok 1 - neon kernels # SKIP no %s here\n' "$tool"
        exit 0
    fi
done

program=$(mktemp)
trap 'rm -f "$program"' EXIT
aarch64-linux-gnu-gcc -static -std=c11 -D_GNU_SOURCE= -O3 -ffp-contract=off -fno-math-errno \
    -Wall -Wextra -Wshadow -Wundef -Itests/cross -Isrc \
    tests/unit/test_kernel.c src/kernel/*.c -lm -o "$program"
qemu-aarch64 "$program"
