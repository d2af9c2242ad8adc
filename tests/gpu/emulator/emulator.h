#pragma once
#include <cstddef>
#include <cstdint>

// Runs CUDA kernels on the processor. Each thread of our pool runs one block after another, the threads of a
// block as fibers: a thread runs until it waits for others (a barrier, a shuffle, a matrix product of the
// warp) and hands over to the next in the schedule. Code that is right gives the same bits in every order; a
// barrier that is missing does not, for fresh shared and device memory is full of NaN, and so is the place
// that an asynchronous copy goes to until it was waited for.
//
// What goes wrong comes out of the launch as an error that says where, as launch() reports any other:
// - a barrier that part of a block waits at, and who waits where
// - vector loads, matrix loads and asynchronous copies from addresses that are no multiple of their size
// - writes past the shared memory that the launch asked for; with the address sanitizer reads and device
// memory too
// - grids, blocks and shared memory larger than a GPU has

namespace supra::emulator {

// The order in which threads of a block, and blocks, take their turns. 32 threads that follow each other in
// it, a warp unless the order is shuffled, go on until they all wait: what a barrier should keep apart drifts
// apart.
enum class Schedule { in_order, reversed, shuffled };
void set_schedule(Schedule schedule, uint64_t seed = 1);

// GPUs that the program finds, and the bytes of memory of each; 1 and 80 GB at first.
void set_gpus(int count);
void set_gpu_memory(size_t bytes);

// Shared memory that a block may ask for; 227 KB, as on Hopper, at first.
void set_most_shared_memory(size_t bytes);

// What cublasLt.h does when asked for an epilogue: run it, as at first; refuse it when the product is run, though the
// heuristics allowed it; or know no algorithm for it.
enum class Epilogues { run, refused, unknown };
void set_epilogues(Epilogues answer);

// Whether the GPU reads the processor's pageable memory by itself; false at first. Then a copy from there is made as late as
// a GPU may make it: before the next work in its stream, or when somebody waits for that.
void set_reads_pageable_memory(bool on);

// For the emulator's own parts, in a thread of a kernel: ends the launch with an error, does not return.
// Nothing on the thread's stack is destroyed, so what it prints must own no memory.
void fault(const char* what, ...) __attribute__((format(printf, 1, 2)));

}  // namespace supra::emulator
