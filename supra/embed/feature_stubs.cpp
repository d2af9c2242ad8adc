#include <cstdlib>

#include "kernels/cuda.h"
#include "tensor/error.h"

// What stands in for what the builds for hosts do without. This file is never linked into any other.

// The C++ library's words for what was thrown and not caught, which it would say with 50 kB of a demangler.
namespace __gnu_cxx {
void __verbose_terminate_handler() { abort(); }
}  // namespace __gnu_cxx

#if !defined(SUPRA_EMBED)
// glibc gives each thread a resolver of host names. With this variable, by which it is found, come 70 kB of one. The static
// program looks up no names.
extern "C" {
__thread void* __libc_resp;
}
#endif

// The GPU's functions: nothing of theirs stays open for a linker, and nobody calls them (tensor/cuda.h).

namespace supra::cuda {

static constexpr char kNone[] = "this library has no CUDA kernels";

std::vector<Gpu> gpus() { return {}; }
std::string gpu_trouble() { return kNone; }
std::shared_ptr<void> allocate(size_t) { fail(kNone); }
void fill_bytes(void*, int, size_t) { fail(kNone); }
void copy(void*, Device, const void*, Device, size_t) { fail(kNone); }
void convert(void*, Dtype, const void*, Dtype, int64_t, int64_t) { fail(kNone); }
void fill(void*, Dtype, double, int64_t) { fail(kNone); }
void add_into(void*, const void*, Dtype, int64_t) { fail(kNone); }
void scaled_sum(float*, const float*, int64_t, double) { fail(kNone); }
bool linear_attention_fuses(const LinearAttentionInputs<Bf16>&) { return false; }
Graph::Graph(const std::function<void()>&) { fail(kNone); }
Graph::~Graph() = default;
void Graph::launch() const { fail(kNone); }

}  // namespace supra::cuda
