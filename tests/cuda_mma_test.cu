#include "kernels/mma.cuh"
#include "tests/cuda_support.h"

// Products of a warp with all fragments loaded as mma.cuh says. Run on a GPU this proves that its layouts are
// the hardware's; run on the emulator, that the emulator's are the same.

namespace supra {
namespace {

// c = a b for blocks of a (n,16,16) and b (n,16,16), kept in shared memory as they are or transposed; c
// (n,16,16)
__global__ void multiply_kernel(float* c, const Bf16* a, const Bf16* b, bool transposed) {
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
  for (int tile = 0; tile < 2; tile++) {
    float sum[4] = {};
    cuda::mma(sum, x, y[2 * tile], y[2 * tile + 1]);
    for (int e = 0; e < 4; e++) c[(lane / 4 + e / 2 * 8) * 16 + tile * 8 + lane % 4 * 2 + e % 2] = sum[e];
  }
}

Tensor multiply(const Tensor& a, const Tensor& b, bool transposed) {
  return on_gpu([&] {
    const Tensor c = gpu_empty(a.shape()), A = gpu(a), B = gpu(b);
    const size_t shared = 2 * cuda::Tile<16>::size(16) * sizeof(Bf16);
    cuda::launch<multiply_kernel>({cuda::blocks(a.dim(0), 1), 32, shared}, at<float>(c), at<Bf16>(A),
                                  at<Bf16>(B), transposed);
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
  for (const bool transposed : {false, true}) {
    expect_close(multiply(a, b, transposed), product_in_f64(a, b), transposed ? "transposed" : "as it is");
  }
}

// A one in each place of one matrix picks a row or a column of the other, where every number is another.
TEST_F(Cuda, every_place_of_a_fragment) {
  const Tensor one = Tensor::zeros({256, 16, 16}), numbers = one.clone();
  for (int64_t i = 0; i < 256; i++) one.data<float>()[i * 256 + i] = 1;
  for (int64_t i = 0; i < numbers.numel(); i++) numbers.data<float>()[i] = static_cast<float>(i % 256);
  const Tensor a = one.to(Dtype::bf16), b = numbers.to(Dtype::bf16);
  for (const bool transposed : {false, true}) {
    EXPECT_TRUE(same_bits(multiply(a, b, transposed), product_in_f64(a, b).to(Dtype::f32)));
    EXPECT_TRUE(same_bits(multiply(b, a, transposed), product_in_f64(b, a).to(Dtype::f32)));
  }
}

}  // namespace supra
