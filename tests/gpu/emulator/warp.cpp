#include <cstring>

#include "kernels/mma.cuh"
#include "tests/gpu/emulator/block.h"

// Operations of a whole warp, and the wrappers of PTX instructions, as the PTX ISA manual describes them.

namespace supra::emulator {

template <class Operands>
static Operands& of(Thread& lane) {
  return *static_cast<Operands*>(lane.operands);
}

int lane() { return Block::current().lane(); }

// Two buffers alternate: a lane that is ahead writes to the other buffer, and no lane comes back to the first one before all
// lanes have read it.
const uint32_t* exchange(const char* name, unsigned mask, uint32_t value, const char* file, int line) {
  Block& block = Block::current();
  uint32_t* const values = block.warp().values[block.self().exchanges++ % 2];
  values[block.lane()] = value;
  block.meet_warp(
      name, mask, nullptr, [](Thread*) {}, file, line);
  return values;
}

}  // namespace supra::emulator

using namespace supra::emulator;

void __syncthreads(const char* file, int line) { Block::current().meet_block("__syncthreads", file, line); }
void __syncwarp(unsigned mask, const char* file, int line) {
  Block::current().meet_warp("__syncwarp", mask, nullptr, nullptr, file, line);
}

namespace supra::cuda {

namespace {

void in_warp(const char* name, void* operands, WarpOperation operation) {
  Block::current().meet_warp(name, kWholeWarp, operands, operation, "kernels/mma.cuh", 0);
}

struct Product {
  float* c;
  const uint32_t* a;
  uint32_t b[2];
};

// The last lane computes the whole product, for all lanes.
void multiply_in_warp(Thread* lanes) {
  float A[16][16], B[16][8], C[16][8];
  for (int lane = 0; lane < kWarp; lane++) {
    const Product& mine = of<Product>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
      float* const pair = &A[g + i % 2 * 8][2 * t + i / 2 * 8];
      pair[0] = low_bf16(mine.a[i]), pair[1] = high_bf16(mine.a[i]);
      C[g + i / 2 * 8][2 * t + i % 2] = mine.c[i];
    }
    for (int i = 0; i < 2; i++) {
      B[2 * t + i * 8][g] = low_bf16(mine.b[i]), B[2 * t + i * 8 + 1][g] = high_bf16(mine.b[i]);
    }
  }
  for (int m = 0; m < 16; m++) {
    float sums[8] = {};
    for (int k = 0; k < 16; k++) {
      for (int n = 0; n < 8; n++) sums[n] += A[m][k] * B[k][n];
    }
    for (int n = 0; n < 8; n++) C[m][n] += sums[n];
  }
  for (int lane = 0; lane < kWarp; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) of<Product>(lanes[lane]).c[i] = C[g + i / 2 * 8][2 * t + i % 2];
  }
}

struct MatrixLoad {
  const Bf16* row;
  uint32_t* pairs;
};

template <bool transposed>
void load_matrices_of_warp(Thread* lanes) {
  for (int i = 0; i < 4; i++) {
    const Bf16* rows[8];
    for (int r = 0; r < 8; r++) rows[r] = of<MatrixLoad>(lanes[8 * i + r]).row;
    for (int lane = 0; lane < kWarp; lane++) {
      const int g = lane / 4, c = lane % 4 * 2;
      const uint32_t low = transposed ? rows[c][g].bits : rows[g][c].bits;
      const uint32_t high = transposed ? rows[c + 1][g].bits : rows[g][c + 1].bits;
      of<MatrixLoad>(lanes[lane]).pairs[i] = low | high << 16;
    }
  }
}

template <bool transposed>
void load_matrices(const char* name, uint32_t (&m)[4], const Bf16* row) {
  check_aligned(row, 16);
  Block::current().check_shared(name, row, 16);
  MatrixLoad operands = {row, m};
  in_warp(name, &operands, load_matrices_of_warp<transposed>);
}

}  // namespace

void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product operands = {c, a, {b0, b1}};
  in_warp("mma", &operands, multiply_in_warp);
}

void load_matrices(uint32_t (&m)[4], const Bf16* row) { load_matrices<false>("load_matrices", m, row); }
void load_matrices_transposed(uint32_t (&m)[4], const Bf16* row) {
  load_matrices<true>("load_matrices_transposed", m, row);
}

uint32_t pack_bf16(float low, float high) {
  return f32_to_bf16(low) | static_cast<uint32_t>(f32_to_bf16(high)) << 16;
}

void check_aligned(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes) {
    fault("misaligned access: %zu bytes at %p", bytes, address);
  }
}

// A copy is made only when the thread waits for it. Until then its target is NaN, so code that does not wait, or that still
// reads the old content, reads NaN.
void copy_async_16(void* to, const void* from, bool zeros) {
  check_aligned(to, 16), check_aligned(from, 16);
  Block::current().check_shared("copy_async_16", to, 16);
  memset(to, 0xff, 16);
  Thread& self = Block::current().self();
  self.copies.push_back({to, zeros ? nullptr : from, self.copy_groups});
}

void copy_async_commit() { Block::current().self().copy_groups++; }

void copy_async_wait(int groups_left) {
  Thread& self = Block::current().self();
  while (!self.copies.empty() && self.copies.front().group < self.copy_groups - groups_left) {
    const PendingCopy& copy = self.copies.front();
    copy.from ? memcpy(copy.to, copy.from, 16) : memset(copy.to, 0, 16);
    self.copies.pop_front();
  }
}

}  // namespace supra::cuda
