/*
 * target.h - regions of a file that are compiled for more than the baseline processor. Flags for
 * whole files would do the same, but then everything such a file includes could use the
 * instructions too, and the linker may keep that copy for the whole program.
 *
 * Include system headers before TARGET_BEGIN.
 */
#ifndef ANNEX_KERNEL_TARGET_H
#define ANNEX_KERNEL_TARGET_H

#define TARGET_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#    define TARGET_BEGIN(isa) \
        TARGET_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#    define TARGET_END TARGET_PRAGMA(clang attribute pop)
#else
#    define TARGET_BEGIN(isa) TARGET_PRAGMA(GCC push_options) TARGET_PRAGMA(GCC target(isa))
#    define TARGET_END TARGET_PRAGMA(GCC pop_options)
#endif

#endif
