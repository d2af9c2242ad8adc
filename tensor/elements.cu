#include "tensor/elements.cuh"

// What tensors and autograd themselves do on the GPU.

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

template <class T>
struct Fill {
  T* y;
  float value;
  template <int W>
  __device__ void at(unsigned, int64_t i) const {
    float a[W];
    for (float& e : a) e = value;
    store(y + i, a);
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

// f(T()) for what the GPU computes with
template <class F>
void by_type(const char* what, Dtype dtype, F f) {
  if (dtype == Dtype::f32) return f(float());
  if (dtype == Dtype::bf16) return f(Bf16());
  fail("%s on the GPU: works on f32 and bf16, %s was given (use to() on the CPU)", what, name(dtype));
}

}  // namespace

void convert(void* to, Dtype to_dtype, const void* from, Dtype from_dtype, int64_t n) {
  by_type("a conversion", to_dtype, [&]<class To>(To) {
    by_type("a conversion", from_dtype, [&]<class From>(From) {
      const Convert<To, From> f = {static_cast<To*>(to), static_cast<const From*>(from)};
      each_element<8>(1, n, fits_vectors<8>(0, f.y, f.x), f);
    });
  });
}

void fill(void* memory, Dtype dtype, double value, int64_t n) {
  by_type("fill", dtype, [&]<class T>(T) {
    const Fill<T> f = {static_cast<T*>(memory), static_cast<float>(value)};
    each_element<kVector<T>>(1, n, fits_vectors<kVector<T>>(0, f.y), f);
  });
}

void add_into(void* sum, const void* term, Dtype dtype, int64_t n) {
  by_type("a sum of gradients", dtype, [&]<class T>(T) {
    const AddInto<T> f = {static_cast<T*>(sum), static_cast<const T*>(term)};
    each_element<kVector<T>>(1, n, fits_vectors<kVector<T>>(0, f.sum, f.term), f);
  });
}

}  // namespace supra::cuda
