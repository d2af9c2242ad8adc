#pragma once
#include <functional>
#include <string>

#include "tests/gpu/emulator/cuda_runtime.h"

// Functions that the emulated parts of CUDA's runtime share.

namespace supra::emulator {

// Remembers the error and its message, and returns the error.
cudaError_t fail_with(cudaError_t error, const std::string& what);

// Does the work now, or records it if the stream is captured.
cudaError_t put(cudaStream_t stream, std::function<cudaError_t()> work);

// The same for a copy from memory of the CPU, which may be done later (set_reads_pageable_memory()).
cudaError_t put_upload(cudaStream_t stream, std::function<cudaError_t()> work);
// Does the copies of this stream that were put off.
void finish_uploads(cudaStream_t stream);
bool reads_pageable_memory();

// While the stream is captured, memory that is freed stays with the graph. False if the stream is not captured.
bool leave_to_graph(cudaStream_t stream, void* memory);

// Memory of the GPU, filled with 0xff. Null if there is none left.
void* take_memory(size_t bytes);
void give_memory_back(void* memory);
bool is_gpu_memory(const void* memory);

}  // namespace supra::emulator
