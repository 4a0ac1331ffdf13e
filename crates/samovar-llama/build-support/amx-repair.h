// Repairs `_tile_loadconfig` of GCC before 11.5, 12.4, 13.3 and 14.1 (PR114098): its asm names eight
// bytes of the configuration as input, so the compiler drops or delays stores to the other 56, and the
// first matrix product dies. Naming all of it makes every store happen before. (Seen in the assembly of
// llama.cpp's amx/mmq.cpp by GCC 12.2 -O3: without this, rows and column widths of all tiles are gone.)
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__) && \
    (__GNUC__ < 11 || (__GNUC__ == 11 && __GNUC_MINOR__ < 5) ||          \
     (__GNUC__ == 12 && __GNUC_MINOR__ < 4) || (__GNUC__ == 13 && __GNUC_MINOR__ < 3))
#include <immintrin.h>

struct samovar_tile_config {
    unsigned char bytes[64];
};

static inline __attribute__((always_inline)) void samovar_tile_loadconfig(const void * config) {
    __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const struct samovar_tile_config *) config) : "memory");
}

#define _tile_loadconfig(config) samovar_tile_loadconfig(config)
#endif
