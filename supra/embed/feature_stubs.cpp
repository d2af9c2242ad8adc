#include <cstdlib>

#include "kernels/cuda.h"
#include "tensor/error.h"

// Link-time stubs for features that the builds for hosts leave out. No other build links this file.

// The C++ library's handler would print the type of an uncaught exception, and links 50 kB of a demangler for it.
namespace __gnu_cxx {
void __verbose_terminate_handler() { abort(); }
}  // namespace __gnu_cxx

#if !defined(SUPRA_EMBED)
// Each thread of glibc has a resolver of host names, and this variable would link its 70 kB. The static program looks up
// no host names.
extern "C" {
__thread void* __libc_resp;
}
#endif

// The GPU's functions, so that no symbol stays undefined. Nobody calls them (tensor/cuda.h).

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
