#include "tests/gpu/cuda_support.h"

// Products on the GPU against the f64 references: on the emulator by tests/gpu/emulator/cublasLt.cpp, which
// follows cuBLAS's manual and refuses what cuBLAS may refuse.

namespace supra {
namespace {

// sum + term, in f64
Tensor plus(const Tensor& sum, const Tensor& term) {
  const Tensor total = sum.to(Dtype::f64).clone();
  add_into(total, term.to(Dtype::f64));
  return total;
}

template <class T>
void check_linear(int64_t N, int64_t C, int64_t O, bool with_bias) {
  SCOPED_TRACE(
      format("%s N%ld C%ld O%ld bias %d", name(dtype_of<T>()), long(N), long(C), long(O), with_bias));
  const Tensor x = random_normal({N, C}, 1).to(dtype_of<T>()),
               dy = random_normal({N, O}, 2).to(dtype_of<T>());
  const Tensor w = random_normal({O, C}, 3), b = random_normal({O}, 4), dw = random_normal({O, C}, 5);
  const auto leaf = [](const Tensor& t) { return Var(t.to(Dtype::f64), true); };
  const Var x64 = leaf(x), w64 = leaf(w), b64 = with_bias ? leaf(b) : Var();
  const Var y64 = linear(x64, w64, b64);
  backward(y64, dy.to(Dtype::f64));
  const Results got = on_gpu([&] {
    const Var X(gpu(x), true), W(gpu(w), true), B = with_bias ? Var(gpu(b), true) : Var();
    // += : what is there stays
    backward(W, gpu(dw));
    const Var Y = linear(X, W, B);
    backward(Y, gpu(dy));
    return Results{Y.value(), X.grad(), W.grad(), with_bias ? B.grad() : X.grad()};
  });
  expect_close(got[0], y64.value(), "y", tolerance<T>());
  expect_close(got[1], x64.grad(), "dx", tolerance<T>());
  // f32 sums of products that are exact
  expect_close(got[2], plus(w64.grad(), dw), "dw");
  if (with_bias) expect_close(got[3], b64.grad(), "db");
}

}  // namespace

TEST_F(Cuda, linear) {
  for (const auto& [N, C, O] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {3, 5, 7}, {17, 64, 8}, {33, 12, 129}, {600, 3, 20}}) {
    for (const bool bias : {false, true}) {
      check_linear<float>(N, C, O, bias);
      check_linear<Bf16>(N, C, O, bias);
    }
  }
}

// Small whole numbers, so that no rounding moves a y past zero: all is exact, however cuBLASLt takes the epilogues. A plan is
// kept for each product, so each of its answers gets products of its own, N rows.
static void check_linear_relu(int64_t N, int64_t C, int64_t O) {
  const auto whole = [](const Shape& shape, uint64_t seed) {
    const Tensor t = Tensor::empty(shape);
    Philox random(seed);
    for (int64_t i = 0; i < t.numel(); i++) t.data<float>()[i] = static_cast<float>(random.next() % 7) - 3;
    return t;
  };
  const Tensor x = whole({N, C}, 1), w = whole({O, C}, 2), b = whole({O}, 3), dy = whole({N, O}, 4);
  const auto run = [&](Dtype dtype, auto move) {
    const Var X(move(x.to(dtype)), true), W(move(w), true), B(move(b), true), Y = linear_relu(X, W, B);
    // += : what is there stays
    backward(W, move(w)), backward(B, move(b));
    backward(Y, move(dy.to(dtype)));
    return Results{Y.value(), X.grad(), W.grad(), B.grad()};
  };
  const Results truth = run(Dtype::f32, [](const Tensor& t) { return t; });
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const Results got = on_gpu([&] { return run(dtype, gpu); });
    for (size_t i = 0; i < got.size(); i++) EXPECT_TRUE(same_bits(got[i].to(Dtype::f32), truth[i])) << i;
  }
}

TEST_F(Cuda, linear_relu) { check_linear_relu(19, 12, 5); }

#if !defined(SUPRA_CUDA)
// What the heuristics do not know, and what they allow and the product refuses: both are done in parts.
TEST_F(Cuda, products_whose_epilogue_is_refused) {
  int64_t N = 20;
  for (const auto answer : {emulator::Epilogues::unknown, emulator::Epilogues::refused}) {
    emulator::set_epilogues(answer);
    for (const bool timed : {false, true}) {
      cuda::time_products(timed);
      check_linear_relu(N, 12, 5);
      check_linear<float>(N, 12, 5, true);
      check_linear<Bf16>(N, 12, 5, true);
    }
    N++;
  }
  cuda::time_products(false);
  emulator::set_epilogues(emulator::Epilogues::run);
}
#endif

TEST_F(Cuda, linear_of_no_rows) {
  const Var x(gpu_empty({0, 3}, Dtype::bf16), true), w(gpu(random_normal({5, 3}, 1)), true);
  const Var b(gpu(random_normal({5}, 2)), true);
  backward(linear(x, w, b), gpu_empty({0, 5}, Dtype::bf16));
  EXPECT_TRUE(same_bits(w.grad().to(Device::cpu), Tensor::zeros({5, 3})));
  EXPECT_TRUE(same_bits(b.grad().to(Device::cpu), Tensor::zeros({5})));
}

// Rows that begin at odd places, so that no promise of alignment can be kept that was made for others.
TEST_F(Cuda, products_of_rows_in_the_middle) {
  const Tensor x = random_normal({9, 5}, 1).to(Dtype::bf16), w = random_normal({5, 3}, 2);
  const Tensor all = matmul(Var(gpu(x)), Var(gpu(w))).value().to(Device::cpu);
  for (int64_t begin = 0; begin < 8; begin++) {
    const Tensor y = matmul(Var(gpu(x).rows(begin, 9)), Var(gpu(w))).value().to(Device::cpu);
    EXPECT_TRUE(same_bits(y, all.rows(begin, 9))) << begin;
  }
}

TEST_F(Cuda, matmul) {
  const auto check = [&]<class T>(T) {
    const Tensor a = random_normal({5, 7}, 1).to(dtype_of<T>()),
                 b = random_normal({7, 3}, 2).to(dtype_of<T>());
    const Tensor dc = random_normal({5, 3}, 3).to(dtype_of<T>());
    const Var a64(a.to(Dtype::f64), true), b64(b.to(Dtype::f64), true), c64 = matmul(a64, b64);
    backward(c64, dc.to(Dtype::f64));
    const Results got = on_gpu([&] {
      const Var A(gpu(a), true), B(gpu(b), true), C = matmul(A, B);
      backward(C, gpu(dc));
      return Results{C.value(), A.grad(), B.grad()};
    });
    expect_close(got[0], c64.value(), "c", tolerance<T>());
    expect_close(got[1], a64.grad(), "da", tolerance<T>());
    expect_close(got[2], b64.grad(), "db", tolerance<T>());
  };
  check(float());
  check(Bf16());
}

TEST_F(Cuda, headwise_linear) {
  const auto check = [&]<class T>(int64_t N, int64_t H, int64_t I, int64_t K, T) {
    SCOPED_TRACE(format("%s N%ld H%ld I%ld K%ld", name(dtype_of<T>()), long(N), long(H), long(I), long(K)));
    const Tensor x = random_normal({N, H * I}, 1).to(dtype_of<T>());
    const Tensor dy = random_normal({N, H * K}, 2).to(dtype_of<T>());
    const Tensor w = random_normal({H * K, I}, 3), b = random_normal({H * K}, 4);
    const Var x64(x.to(Dtype::f64), true), w64(w.to(Dtype::f64), true), b64(b.to(Dtype::f64), true);
    const Var y64 = headwise_linear(x64, w64, b64, H);
    backward(y64, dy.to(Dtype::f64));
    const Results got = on_gpu([&] {
      const Var X(gpu(x), true), W(gpu(w), true), B(gpu(b), true), Y = headwise_linear(X, W, B, H);
      backward(Y, gpu(dy));
      return Results{Y.value(), X.grad(), W.grad(), B.grad()};
    });
    expect_close(got[0], y64.value(), "y", tolerance<T>());
    expect_close(got[1], x64.grad(), "dx", tolerance<T>());
    expect_close(got[2], w64.grad(), "dw");
    expect_close(got[3], b64.grad(), "db");
  };
  check(5, 3, 7, 2, float());
  check(5, 3, 7, 2, Bf16());
  check(66, 2, 8, 16, Bf16());
}

// Strides, batches, and sums over many rows in slices.
TEST_F(Cuda, add_rows) {
  for (const auto& size : std::vector<std::pair<int64_t, int64_t>>{{1, 3}, {700, 5}, {1030, 132}}) {
    const int64_t N = size.first, C = size.second;
    const Tensor x = random_normal({N, C}, 1).to(Dtype::bf16), sums = random_normal({C}, 2);
    const Results got = on_gpu([&] {
      const Tensor total = gpu(sums).clone();
      cuda::add_rows(at<float>(total), at<Bf16>(gpu(x)), N, C);
      return Results{total};
    });
    const Tensor truth = sums.to(Dtype::f64);
    for (int64_t n = 0; n < N; n++) add_into(truth, x.rows(n, n + 1).view({C}).to(Dtype::f64));
    expect_close(got[0], truth, format("N%ld C%ld", long(N), long(C)));
  }
}

TEST_F(Cuda, timed_products_are_right_too) {
  cuda::time_products(true);
  check_linear<float>(7, 12, 5, true);
  check_linear<Bf16>(7, 12, 5, true);
  cuda::time_products(false);
}

// Three blocks of 32 a row, so that the last four-bit one has no neighbour.
TEST_F(Cuda, weights_as_they_are_stored) {
  const Tensor x = random_normal({19, 96}, 1), w = random_normal({5, 96}, 2);
  for (const Dtype stored : {Dtype::f16, Dtype::bf16, Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) {
    const Tensor packed = w.to(stored);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      SCOPED_TRACE(format("%s weights, %s activations", name(stored), name(dtype)));
      const Tensor input = x.to(dtype);
      const Results got = on_gpu([&] { return Results{linear(Var(gpu(input)), Var(gpu(packed))).value()}; });
      const Var truth = linear(Var(input.to(Dtype::f64)), Var(packed.to(Dtype::f64)));
      expect_close(got[0], truth.value(), "y", dtype == Dtype::f32 ? 1 : kBf16);
      EXPECT_THROW(linear(Var(gpu(input), true), Var(gpu(packed))), Error);
    }
    EXPECT_TRUE(same_bits(gpu(packed).to(Dtype::f32).to(Device::cpu), packed.to(Dtype::f32)));
    EXPECT_TRUE(
        same_bits(gpu(packed.rows(1, 3)).to(Dtype::bf16).to(Device::cpu), packed.rows(1, 3).to(Dtype::bf16)));
  }
}

TEST_F(Cuda, tensors_are_filled_and_converted) {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::i32, Dtype::u8}) {
    const Tensor filled = Tensor::full({3, 5}, 3.7, dtype, Device::cuda);
    EXPECT_TRUE(same_bits(filled.to(Device::cpu), Tensor::full({3, 5}, 3.7, dtype))) << name(dtype);
    // the CPU converts on the way
    const Tensor from_there = Tensor::empty({3, 5}), from_here = gpu_empty({3, 5});
    from_there.copy_from(filled);
    from_here.copy_from(Tensor::full({3, 5}, 3.7, dtype));
    EXPECT_TRUE(same_bits(from_there, Tensor::full({3, 5}, 3.7, dtype).to(Dtype::f32))) << name(dtype);
    EXPECT_TRUE(same_bits(from_here.to(Device::cpu), from_there)) << name(dtype);
  }
  EXPECT_EQ(Tensor::full({1}, 2.5, Dtype::bf16, Device::cuda).item(), 2.5);
}

}  // namespace supra
