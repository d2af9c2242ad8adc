#include "tensor/cuda.cuh"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <map>

namespace supra::cuda {

void check(cudaError_t error, const char* what) {
  CHECK(error == cudaSuccess, "%s: %s", what, cudaGetErrorString(error));
}

void launch_failed(std::string_view signature, const LaunchShape& shape, cudaError_t error) {
  // otherwise the next call would report this error again
  cudaGetLastError();
  std::string_view name = signature.substr(0, signature.rfind(']'));
  name.remove_prefix(name.find("kernel = ") + 9);
  const std::string_view scopes = name.substr(0, name.find('<'));
  name.remove_prefix(std::max(scopes.rfind(':') + 1, scopes.find('&') + 1));
  int device = 0, most_shared = INT32_MAX;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  CHECK(shape.shared_bytes <= static_cast<size_t>(most_shared),
        "%.*s needs %zu bytes of shared memory for a block, this GPU has %d: the model's heads or rows are too wide for it "
        "(use --device cpu, or a GPU with more shared memory: the A100 has 166912 bytes, the H100 232448)",
        static_cast<int>(name.size()), name.data(), shape.shared_bytes, most_shared);
  fail("%.*s, grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of shared memory: %s",
       static_cast<int>(name.size()), name.data(), shape.grid.x, shape.grid.y, shape.grid.z, shape.block.x,
       shape.block.y, shape.block.z, shape.shared_bytes, cudaGetErrorString(error));
}

int64_t attribute(cudaDeviceAttr what) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, what, 0), "an attribute of the GPU");
  return value;
}

std::vector<Gpu> gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  std::vector<Gpu> found;
  for (int i = 0; i < count; i++) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, i), "properties of a GPU");
    found.push_back({properties.name, properties.major, properties.minor, properties.multiProcessorCount,
                     properties.totalGlobalMem});
  }
  return found;
}

std::string versions() {
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  const auto text = [](int v) { return format("%d.%d", v / 1000, v % 1000 / 10); };
  return "CUDA " + text(runtime) + (driver ? ", the driver knows " + text(driver) : "");
}

std::string gpu_trouble() {
  int count = 0, driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) return "this machine has no NVIDIA driver";
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  if (count == 0) return "the driver knows of no GPU";
  const Gpu gpu = gpus().front();
  return gpu.major >= 8
             ? ""
             : format("%s is sm_%d%d, the kernels need sm_80", gpu.name.c_str(), gpu.major, gpu.minor);
}

// Freed memory stays in the pool, because the next step will allocate the same sizes.
static void keep_pool_memory() {
  cudaMemPool_t pool;
  uint64_t all = UINT64_MAX;
  check(cudaDeviceGetDefaultMemPool(&pool, 0), "the GPU's memory pool");
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "the GPU's memory pool");
}

static const Stream& default_stream() {
  // never destroyed: static tensors may free their memory later
  static const Stream* const stream = [] {
    const std::string reason = why_not();
    CHECK(reason.empty(), "no GPU can be used: %s (supra doctor says what there is)", reason.c_str());
    keep_pool_memory();
    return new Stream;
  }();
  return *stream;
}

static thread_local Stream::Handle scoped_stream = nullptr;

Stream::Stream() { check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "a stream of the GPU"); }
Stream::~Stream() { cudaStreamDestroy(handle_); }

Stream::Handle current_stream() { return scoped_stream ? scoped_stream : default_stream().handle(); }

namespace {

// A point in a stream. CUDA keeps it as long as something waits for it.
class Event {
 public:
  explicit Event(unsigned flags) { check(cudaEventCreateWithFlags(&handle_, flags), "an event of the GPU"); }
  ~Event() { cudaEventDestroy(handle_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t handle() const { return handle_; }
  void record(Stream::Handle stream) { check(cudaEventRecord(handle_, stream), "an event of the GPU"); }

 private:
  cudaEvent_t handle_;
};

}  // namespace

void wait_for(Stream::Handle other) {
  Event event(cudaEventDisableTiming);
  event.record(other);
  check(cudaStreamWaitEvent(current_stream(), event.handle(), 0), "a wait of one stream for another");
}

void synchronize() { check(cudaStreamSynchronize(current_stream()), "work of the GPU"); }

double seconds_of(const std::function<void()>& f) {
  Event start(cudaEventDefault), end(cudaEventDefault);
  start.record(current_stream());
  f();
  end.record(current_stream());
  check(cudaEventSynchronize(end.handle()), "work of the GPU");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, start.handle(), end.handle()), "the time of the GPU");
  return milliseconds / 1e3;
}

StreamScope::StreamScope(const Stream& stream) : before_(scoped_stream) { scoped_stream = stream.handle(); }
StreamScope::~StreamScope() { scoped_stream = before_; }

namespace {

// The memory of a graph. Blocks that are freed while it is recorded are used again by later allocations, as in a stream. New
// blocks are allocated in `stream`, which is not recorded.
struct GraphMemory {
  Stream::Handle stream;
  std::vector<std::shared_ptr<void>> blocks = {};
  std::multimap<size_t, void*> free = {};  // by size
};

thread_local std::shared_ptr<GraphMemory> recorded;

std::shared_ptr<void> allocate_in(Stream::Handle stream, size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocAsync(&memory, bytes, stream);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "memory of the GPU");
  return {memory, [stream](void* p) { cudaFreeAsync(p, stream); }};
}

}  // namespace

bool recording() { return recorded != nullptr; }

std::shared_ptr<void> allocate(size_t bytes) {
  if (!recorded) return allocate_in(current_stream(), bytes);
  const std::shared_ptr<GraphMemory> graph = recorded;
  auto found = graph->free.lower_bound(bytes);
  // a small allocation does not use up a large block
  if (found != graph->free.end() && found->first > 2 * bytes + 4096) found = graph->free.end();
  if (found == graph->free.end()) {
    graph->blocks.push_back(allocate_in(graph->stream, bytes));
    if (!graph->blocks.back()) return nullptr;
    found = graph->free.emplace(bytes, graph->blocks.back().get());
  }
  const auto [size, memory] = *found;
  graph->free.erase(found);
  return {memory, [graph, size = size](void* p) {
            if (graph == recorded) graph->free.emplace(size, p);
          }};
}

void fill_bytes(void* memory, int byte, size_t bytes) {
  check(cudaMemsetAsync(memory, byte, bytes, current_stream()), "filling memory of the GPU");
}

void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  CHECK(!recording() || to_device == from_device, "a copy from %s to %s cannot be part of a graph", name(from_device),
        name(to_device));
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, current_stream()), "a copy from or to the GPU");
  // A driver that cannot read pageable memory copies it aside before it returns. A GPU that can (Grace Hopper, HMM) may read
  // it at any time until the stream is done with the copy.
  const bool may_still_read = from_device == Device::cpu && attribute(cudaDevAttrPageableMemoryAccess) != 0;
  if (to_device == Device::cpu || may_still_read) synchronize();
}

Graph::Graph(const std::function<void()>& f) {
  CHECK(!recording(), "a graph is recorded within another one");
  // a stream of its own: work that other threads add to the common stream meanwhile is not part of the graph
  const Stream stream;
  memory_ = recorded = std::make_shared<GraphMemory>(GraphMemory{current_stream()});
  cudaGraph_t graph = nullptr;
  std::exception_ptr trouble;
  try {
    const StreamScope scope(stream);
    check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeRelaxed), "the start of a graph");
    f();
  } catch (...) {
    trouble = std::current_exception();
  }
  recorded = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream.handle(), &graph);
  if (!trouble && error == cudaSuccess) error = cudaGraphInstantiate(&instance_, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  // otherwise the next call would report this error again
  if (error != cudaSuccess) cudaGetLastError();
  if (trouble) std::rethrow_exception(trouble);
  check(error, "a graph");
}

Graph::~Graph() { cudaGraphExecDestroy(instance_); }

void Graph::launch() const { check(cudaGraphLaunch(instance_, current_stream()), "a graph"); }

}  // namespace supra::cuda
