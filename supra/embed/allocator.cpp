#include <new>

#include "tensor/memory.h"

// `new` and `delete` of the library for hosts. Memory comes from the allocator that the thread uses (tensor/memory.h), and
// returns to it whichever thread releases it. The program does not link this file. A host that compiles the sources may keep
// its own `new` (SUPRA_HOST_NEW).

namespace supra {
namespace {

// Is directly before each block.
struct Origin {
  const Memory* memory;
  size_t bytes;  // of the block and everything before it
};
static_assert(sizeof(Origin) <= alignof(max_align_t));

void* take(size_t bytes, size_t alignment) noexcept {
  static constexpr Memory kLibrary;
  const Memory* memory = memory_in_use() ? memory_in_use() : &kLibrary;
  const size_t whole = bytes + alignment;
  void* const block = whole < bytes ? nullptr : memory->take(whole, alignment);
  if (!block) return nullptr;
  char* const given = static_cast<char*>(block) + alignment;
  reinterpret_cast<Origin*>(given)[-1] = {memory, whole};
  return given;
}

void take_back(void* given, size_t alignment) noexcept {
  if (!given) return;
  const Origin origin = static_cast<Origin*>(given)[-1];
  origin.memory->give_back(static_cast<char*>(given) - alignment, origin.bytes);
}

void* take_or_throw(size_t bytes, size_t alignment) {
  void* const memory = take(bytes, alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}

constexpr size_t kUsual = alignof(max_align_t);
size_t at_least_usual(std::align_val_t alignment) {
  return static_cast<size_t>(alignment) < kUsual ? kUsual : static_cast<size_t>(alignment);
}

}  // namespace
}  // namespace supra

void* operator new(size_t bytes) { return supra::take_or_throw(bytes, supra::kUsual); }
void* operator new[](size_t bytes) { return supra::take_or_throw(bytes, supra::kUsual); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return supra::take(bytes, supra::kUsual); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return supra::take(bytes, supra::kUsual);
}
void* operator new(size_t bytes, std::align_val_t a) {
  return supra::take_or_throw(bytes, supra::at_least_usual(a));
}
void* operator new[](size_t bytes, std::align_val_t a) {
  return supra::take_or_throw(bytes, supra::at_least_usual(a));
}
void* operator new(size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return supra::take(bytes, supra::at_least_usual(a));
}
void* operator new[](size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return supra::take(bytes, supra::at_least_usual(a));
}

void operator delete(void* p) noexcept { supra::take_back(p, supra::kUsual); }
void operator delete[](void* p) noexcept { supra::take_back(p, supra::kUsual); }
void operator delete(void* p, size_t) noexcept { supra::take_back(p, supra::kUsual); }
void operator delete[](void* p, size_t) noexcept { supra::take_back(p, supra::kUsual); }
void operator delete(void* p, const std::nothrow_t&) noexcept { supra::take_back(p, supra::kUsual); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { supra::take_back(p, supra::kUsual); }
void operator delete(void* p, std::align_val_t a) noexcept { supra::take_back(p, supra::at_least_usual(a)); }
void operator delete[](void* p, std::align_val_t a) noexcept {
  supra::take_back(p, supra::at_least_usual(a));
}
void operator delete(void* p, size_t, std::align_val_t a) noexcept {
  supra::take_back(p, supra::at_least_usual(a));
}
void operator delete[](void* p, size_t, std::align_val_t a) noexcept {
  supra::take_back(p, supra::at_least_usual(a));
}
void operator delete(void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
  supra::take_back(p, supra::at_least_usual(a));
}
void operator delete[](void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
  supra::take_back(p, supra::at_least_usual(a));
}
