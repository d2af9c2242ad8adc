#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/device.h"
#include "tensor/dtype.h"

// The GPU from the side of the CPU: devices, memory, copies, streams. This header does not include CUDA's. Code that
// runs on the GPU is in .cu files, which include tensor/cuda.cuh.
//
// A build without CUDA has no .cu files. The functions declared here are then weak symbols with the value null.
// Nobody calls them: allocate() refuses to put a tensor on a GPU. (The builds
// for hosts link supra/embed/feature_stubs.cpp instead.) So an op can call its CUDA kernel without
// an #ifdef.
#if defined(SUPRA_CUDA) || defined(SUPRA_INFERENCE)
#define SUPRA_CU
#else
#define SUPRA_CU __attribute__((weak))
#endif

// CUDA's names for the types behind cudaStream_t and cudaGraphExec_t
struct CUstream_st;
struct CUgraphExec_st;

namespace supra::cuda {

struct Gpu {
  std::string name;
  int major, minor;  // sm_90 is 9, 0
  int multiprocessors;
  size_t memory;  // bytes
};

SUPRA_CU std::vector<Gpu> gpus();    // empty when there is none; the first one is used
SUPRA_CU std::string versions();     // for example "CUDA 13.0, the driver knows 12.8"
SUPRA_CU std::string gpu_trouble();  // why the first GPU cannot be used; empty when it can

// True if this build has the .cu files.
inline bool built() {
#if defined(SUPRA_CUDA)
  return true;
#elif defined(SUPRA_INFERENCE)
  return false;
#else
  return gpu_trouble != nullptr;
#endif
}

// Why no GPU can be used, and what to do; empty if one can be used.
inline std::string why_not() {
  return built() ? gpu_trouble() : "this build has no CUDA kernels (build with make cuda)";
}

// The GPU runs the work of a stream in the order in which it was added. The work of two streams may run at the same time.
class Stream {
 public:
  using Handle = CUstream_st*;

  SUPRA_CU Stream();
  SUPRA_CU ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  Handle handle() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

// Kernels, copies and allocations go to the calling thread's current stream. All threads use the same stream
// until a StreamScope changes it.
SUPRA_CU Stream::Handle current_stream();
// Work that is added to the current stream from now on waits for everything in `other`.
SUPRA_CU void wait_for(Stream::Handle other);
// Waits until everything in the current stream is done. Throws Error if any of it failed.
SUPRA_CU void synchronize();
// The seconds that the GPU takes for the work that f() adds to the current stream.
SUPRA_CU double seconds_of(const std::function<void()>& f);

class StreamScope {
 public:
  SUPRA_CU explicit StreamScope(const Stream& stream);
  SUPRA_CU ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Stream::Handle before_;
};

// Memory of the GPU, aligned to 256 bytes, from CUDA's pool. Allocating and freeing are ordered by the stream like
// other work and do not wait. Memory is freed in the stream in which it was allocated. Null if there is none left.
SUPRA_CU std::shared_ptr<void> allocate(size_t bytes);
SUPRA_CU void fill_bytes(void* memory, int byte, size_t bytes);
// Copies from or to the GPU, or both. A copy to the CPU returns when it is complete. A copy from the CPU returns
// when the source may be changed.
SUPRA_CU void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes);

// Records the work that f() adds to the current stream as a CUDA graph. launch() runs all of it, with the same addresses, in
// one cheap call. While it is recorded, the work of f() does not run, and f() may not copy from or to the CPU. Memory that f()
// allocated lives as long as the graph and the last tensor in it. Throws Error if f() throws, or if
// its work cannot be recorded.
class Graph {
 public:
  SUPRA_CU explicit Graph(const std::function<void()>& f);
  SUPRA_CU ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  SUPRA_CU void launch() const;  // adds the work to the current stream

 private:
  std::shared_ptr<void> memory_;
  CUgraphExec_st* instance_ = nullptr;
};
// Whether this thread is recording a graph.
SUPRA_CU bool recording();

// ---- elements.cu: on memory of the GPU; dtypes that are not named here throw Error
// N rows of C elements: f32 or bf16 from f32, bf16, f16 or a quantised dtype
SUPRA_CU void convert(void* to, Dtype to_dtype, const void* from, Dtype from_dtype, int64_t N, int64_t C);
// n elements of any dtype but the quantised
SUPRA_CU void fill(void* memory, Dtype dtype, double value, int64_t n);
// n elements of f32 or bf16: sum += term
SUPRA_CU void add_into(void* sum, const void* term, Dtype dtype, int64_t n);

}  // namespace supra::cuda
