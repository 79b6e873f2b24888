// In a file of its own: a compiler that sees both sides takes malloc and delete for a mismatch.
#include "tests/fuzz/counted_memory.hpp"

#include <cstdlib>
#include <new>

#include <malloc.h>

namespace {
size_t counted = 0;
}

namespace storctl::fuzz {
size_t live_bytes() { return counted; }
}  // namespace storctl::fuzz

void* operator new(size_t size, const std::nothrow_t&) noexcept {
    void* memory = std::malloc(size);
    if (memory != nullptr) counted += malloc_usable_size(memory);
    return memory;
}
void* operator new(size_t size) {
    void* memory = operator new(size, std::nothrow);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new[](size_t size, const std::nothrow_t& none) noexcept { return operator new(size, none); }
void operator delete(void* memory) noexcept {
    if (memory != nullptr) counted -= malloc_usable_size(memory);
    std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete[](void* memory, size_t) noexcept { operator delete(memory); }
