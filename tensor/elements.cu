#include "tensor/elements.cuh"
#include "tensor/stored.cuh"

// The GPU work of tensors and autograd: conversions, constants, sums of gradients. A thread takes a vector of elements. Memory
// bounds all of it.

namespace supra::cuda {

namespace {

template <class To, class From>
struct Convert {
  To* y;
  const From* x;
  template <int W>
  __device__ void at(unsigned, int64_t i) const {
    float a[W];
    load(a, x + i);
    store(y + i, a);
  }
};

template <class To>
struct FromStored {
  To* y;
  const uint8_t* x;
  Dtype dtype;
  int64_t C, row_bytes;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    float a[W];
    load_stored(a, x + row * row_bytes, dtype, i, C);
    store(y + row * C + i, a);
  }
};

template <class Bits>
struct Fill {
  Bits* y;
  Bits value;
  template <int W>
  __device__ void at(unsigned, int64_t i) const {
    y[i] = value;
  }
};

template <class T>
struct AddInto {
  T* sum;
  const T* term;
  template <int W>
  __device__ void at(unsigned, int64_t i) const {
    float a[W], b[W];
    load(a, sum + i), load(b, term + i);
    for (int e = 0; e < W; e++) a[e] += b[e];
    store(sum + i, a);
  }
};

// f(T()) for the two types in which the GPU computes
template <class F>
void by_type(const char* what, Dtype dtype, F f) {
  if (dtype == Dtype::f32) return f(float());
  if (dtype == Dtype::bf16) return f(Bf16());
  fail("%s on the GPU: works on f32 and bf16, %s was given (use to() on the CPU)", what, name(dtype));
}

}  // namespace

void convert(void* to, Dtype to_dtype, const void* from, Dtype from_dtype, int64_t N, int64_t C) {
  by_type("a conversion", to_dtype, [&]<class To>(To) {
    if (from_dtype == Dtype::f16 || is_quantized(from_dtype)) {
      const FromStored<To> f = {static_cast<To*>(to), static_cast<const uint8_t*>(from), from_dtype, C,
                                static_cast<int64_t>(row_bytes(from_dtype, C))};
      return each_element<4>(N, C, fits_vectors(C, f.y), f);
    }
    by_type("a conversion", from_dtype, [&]<class From>(From) {
      const Convert<To, From> f = {static_cast<To*>(to), static_cast<const From*>(from)};
      each_element<8>(1, N * C, fits_vectors<8>(0, f.y, f.x), f);
    });
  });
}

void fill(void* memory, Dtype dtype, double value, int64_t n) {
  const auto with = [&]<class Bits>(Bits bits) {
    supra::convert(&bits, dtype, &value, Dtype::f64, 1);
    each_element<1>(1, n, false, Fill<Bits>{static_cast<Bits*>(memory), bits});
  };
  switch (size_of(dtype)) {
    case 1:
      return with(uint8_t());
    case 2:
      return with(uint16_t());
    case 4:
      return with(uint32_t());
    default:
      return with(uint64_t());
  }
}

void add_into(void* sum, const void* term, Dtype dtype, int64_t n) {
  by_type("a sum of gradients", dtype, [&]<class T>(T) {
    const AddInto<T> f = {static_cast<T*>(sum), static_cast<const T*>(term)};
    each_element<kVector<T>>(1, n, fits_vectors<kVector<T>>(0, f.sum, f.term), f);
  });
}

}  // namespace supra::cuda
