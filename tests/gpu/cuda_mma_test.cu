#include "kernels/mma.cuh"
#include "tests/gpu/cuda_support.h"

// Products of a warp with all fragments loaded as mma.cuh says. Run on a GPU this proves that its layouts are
// the hardware's; run on the emulator, that the emulator's are the same.

namespace supra {
namespace {

// How the fragments come to be: from matrices in shared memory, as they are or transposed; a from what a product left
// in registers.
enum class From { rows, columns, products };

// c = a b for blocks of a (n,16,16) and b (n,16,16); c (n,16,16)
__global__ void multiply_kernel(float* c, const Bf16* a, const Bf16* b, From from) {
  const bool transposed = from == From::columns;
  const cuda::Tile<16> A = {cuda::shared_memory<Bf16>()}, B = {A.elements + A.size(16)};
  a += blockIdx.x * 256, b += blockIdx.x * 256, c += blockIdx.x * 256;
  for (int i = threadIdx.x; i < 256; i += 32) {
    const int row = i / 16, column = i % 16;
    *(transposed ? A.at(column, row) : A.at(row, column)) = a[i];
    *(transposed ? B.at(column, row) : B.at(row, column)) = b[i];
  }
  __syncthreads();
  const int lane = threadIdx.x;
  uint32_t x[4], y[4];
  if (transposed) {
    cuda::load_a_of_transposed(x, A, 0, 0, lane), cuda::load_b_of_transposed(y, B, 0, 0, lane);
  } else {
    cuda::load_a(x, A, 0, 0, lane), cuda::load_b(y, B, 0, 0, lane);
  }
  if (from == From::products) {
    float halves[2][4];
    for (int i = 0; i < 8; i++) {
      halves[i / 4][i % 4] = cuda::to_float(a[(lane / 4 + i % 4 / 2 * 8) * 16 + i / 4 * 8 + lane % 4 * 2 + i % 2]);
    }
    cuda::to_a(x, halves[0], halves[1]);
  }
  for (int tile = 0; tile < 2; tile++) {
    float sum[4] = {};
    cuda::mma(sum, x, y[2 * tile], y[2 * tile + 1]);
    for (int e = 0; e < 4; e++) c[(lane / 4 + e / 2 * 8) * 16 + tile * 8 + lane % 4 * 2 + e % 2] = sum[e];
  }
}

Tensor multiply(const Tensor& a, const Tensor& b, From from) {
  return on_gpu([&] {
    const Tensor c = gpu_empty(a.shape()), A = gpu(a), B = gpu(b);
    const size_t shared = 2 * cuda::Tile<16>::size(16) * sizeof(Bf16);
    cuda::launch<multiply_kernel>({cuda::blocks(a.dim(0), 1), 32, shared}, at<float>(c), at<Bf16>(A),
                                  at<Bf16>(B), from);
    return Results{c};
  })[0];
}

Tensor product_in_f64(const Tensor& a, const Tensor& b) {
  const Tensor a64 = a.to(Dtype::f64), b64 = b.to(Dtype::f64), c = Tensor::zeros(a.shape(), Dtype::f64);
  for (int64_t i = 0; i < a.numel() * 16; i++) {
    const int64_t row = i / 256, column = i / 16 % 16, k = i % 16, first = row / 16 * 256;
    c.data<double>()[row * 16 + column] +=
        a64.data<double>()[row * 16 + k] * b64.data<double>()[first + k * 16 + column];
  }
  return c;
}

}  // namespace

TEST_F(Cuda, a_product_of_a_warp) {
  const Tensor a = random_normal({7, 16, 16}, 1).to(Dtype::bf16),
               b = random_normal({7, 16, 16}, 2).to(Dtype::bf16);
  for (From from : {From::rows, From::columns, From::products}) {
    expect_close(multiply(a, b, from), product_in_f64(a, b), std::to_string(static_cast<int>(from)));
  }
}

// A one in each place of one matrix picks a row or a column of the other, where every number is another.
TEST_F(Cuda, every_place_of_a_fragment) {
  const Tensor one = Tensor::zeros({256, 16, 16}), numbers = one.clone();
  for (int64_t i = 0; i < 256; i++) one.data<float>()[i * 256 + i] = 1;
  for (int64_t i = 0; i < numbers.numel(); i++) numbers.data<float>()[i] = static_cast<float>(i % 256);
  const Tensor a = one.to(Dtype::bf16), b = numbers.to(Dtype::bf16);
  for (From from : {From::rows, From::columns, From::products}) {
    EXPECT_TRUE(same_bits(multiply(a, b, from), product_in_f64(a, b).to(Dtype::f32)));
    EXPECT_TRUE(same_bits(multiply(b, a, from), product_in_f64(b, a).to(Dtype::f32)));
  }
}

// Element i of the shared memory is the number i; registers (32,4) of the lanes
__global__ void load_kernel(int32_t* registers, bool transposed) {
  Bf16* const shared = cuda::shared_memory<Bf16>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) shared[i].bits = static_cast<uint16_t>(i);
  __syncthreads();
  uint32_t m[4];
  transposed ? cuda::load_matrices_transposed(m, shared + 8 * lane) : cuda::load_matrices(m, shared + 8 * lane);
  for (int i = 0; i < 4; i++) registers[4 * lane + i] = static_cast<int32_t>(m[i]);
}

// PTX ISA, ldmatrix: with this, the products above leave only one layout for mma.
TEST_F(Cuda, every_register_of_a_fragment) {
  for (const bool transposed : {false, true}) {
    const Tensor registers = on_gpu([&] {
      const Tensor r = gpu_empty({32, 4}, Dtype::i32);
      cuda::launch<load_kernel>({1, 32, 512}, at<int32_t>(r), transposed);
      return Results{r};
    })[0];
    for (int i = 0; i < 128; i++) {
      const int g = i / 16, t = i / 4 % 4, matrix = i % 4 * 64;
      const int low = transposed ? 16 * t + g : 8 * g + 2 * t, high = low + (transposed ? 8 : 1);
      EXPECT_EQ(registers.data<int32_t>()[i], matrix + low + ((matrix + high) << 16)) << i;
    }
  }
}

}  // namespace supra
