#pragma once
#include "kernels/vec.h"

// Eight tiles of 16 rows of 64 bytes, and their operations. Only this file uses AMX. Without AMX the same bits are
// computed with fma(), where denormals are flushed (tensor/parallel.h).
//
//   multiply<c, a, b>: c (16,16) += a (16,32) b (32,16)     c: float   a: rows of bf16   b: rows of pairs (k, k + 1)
//   Terms of even and of odd k are summed apart, from zero, by fused multiply-adds; then c = c + (even + odd).
//
// Written in assembly, because g++ 12 does not know which memory its own intrinsics read, and removes stores to it. The
// Makefile defines SUPRA_AMX, because clang++ 14 has a different name for __AMX_BF16__.

namespace supra::SUPRA_LEVEL {
namespace {

constexpr int64_t kTile = 16, kTileDepth = 32, kTileRowBytes = 64, kTileWords = kTile * 16;  // words of 32 bits

#if defined(SUPRA_AMX)

// The configuration for LDTILECFG: eight tiles of one shape.
struct TileShapes {
  uint8_t palette = 1, start_row = 0, unused[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);
constexpr TileShapes kTileShapes;

// While this object lives, the thread uses its tile registers. Its destructor releases them, so that the system need not
// save them.
class Tiles {
 public:
  Tiles() { asm volatile("ldtilecfg %0" ::"m"(kTileShapes)); }
  ~Tiles() { asm volatile("tilerelease" ::); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int t>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  template <int t>
  void load(const void* p, int64_t row_bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(row_bytes), "i"(t) : "memory");
  }
  template <int t>
  void store(void* p, int64_t row_bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(row_bytes), "i"(t) : "memory");
  }
  template <int c, int a, int b>
  void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};

#else

class Tiles {
 public:
  template <int t>
  void zero() {
    __builtin_memset(tiles_[t], 0, sizeof tiles_[t]);
  }
  template <int t>
  void load(const void* p, int64_t row_bytes) {
    for (int64_t i = 0; i < kTile; i++) __builtin_memcpy(tiles_[t] + i * 16, static_cast<const char*>(p) + i * row_bytes, 64);
  }
  template <int t>
  void store(void* p, int64_t row_bytes) {
    for (int64_t i = 0; i < kTile; i++) __builtin_memcpy(static_cast<char*>(p) + i * row_bytes, tiles_[t] + i * 16, 64);
  }
  // A few rows at a time, so that a vector of b is unpacked once for all of them.
  template <int c, int a, int b>
  void multiply() {
    constexpr int64_t kRows = 4;
    for (int64_t i = 0; i < kTile; i += kRows) {
      for (int64_t j = 0; j < 16; j += kLanes) {
        Vec even[kRows] = {}, odd[kRows] = {};
        for (int64_t pair = 0; pair < 16; pair++) {
          const VecInt right = (VecInt)load_words(tiles_[b] + pair * 16 + j);
#pragma GCC unroll 4
          for (int64_t r = 0; r < kRows; r++) {
            const VecInt left = tiles_[a][(i + r) * 16 + pair] - VecInt{};
            even[r] = fma((Vec)(left << 16), (Vec)(right << 16), even[r]);
            odd[r] = fma((Vec)(left & kUpper), (Vec)(right & kUpper), odd[r]);
          }
        }
#pragma GCC unroll 4
        for (int64_t r = 0; r < kRows; r++) {
          float* sum = reinterpret_cast<float*>(tiles_[c]) + (i + r) * 16 + j;
          supra::SUPRA_LEVEL::store(sum, supra::SUPRA_LEVEL::load(sum) + (even[r] + odd[r]));
        }
      }
    }
  }

 private:
  static constexpr int32_t kUpper = -65536;
  static Vec load_words(const int32_t* p) { return supra::SUPRA_LEVEL::load(reinterpret_cast<const float*>(p)); }
  alignas(64) int32_t tiles_[8][kTileWords];
};

#endif

}  // namespace
}  // namespace supra::SUPRA_LEVEL
