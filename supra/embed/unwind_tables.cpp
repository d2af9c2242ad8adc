// Errors inside the library are C++ exceptions, and the unwinder finds its way by tables (.eh_frame). It usually finds
// these by a header that the linker writes, but a program linked with -static may have no such header, and its first
// error would abort it. So libsupra.a keeps its tables in a section of its own (see the Makefile), and its own copy of
// the unwinder is told of them here, before any constructor of the host runs.
//
// Linked into the library for hosts alone. libsupra.so.1 always has the header and does not define the name below.
// Nothing needs to be undone: the unwinder is a part of the library, and what was registered goes with it.

extern "C" {
extern const char supra_unwind_tables[] __attribute__((weak, visibility("hidden")));
// libgcc's. `object` is memory of its own: six words, eight in later versions.
void __register_frame_info(const void* tables, void* object);
}

__attribute__((constructor(101))) static void register_unwind_tables() {
  static void* object[16];
  if (supra_unwind_tables) __register_frame_info(supra_unwind_tables, object);
}
