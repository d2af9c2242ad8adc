// Errors inside the library are C++ exceptions, and the unwinder needs tables (.eh_frame). It usually finds them by a header
// that the linker writes, but a program linked with -static may lack that header, and then its first error would abort it. So
// libsupra.a has its tables in a separate section (see the Makefile), and this file registers them with the library's copy of
// the unwinder, before any constructor of the host runs.
//
// Only the library for hosts links this file. libsupra.so.1 always has the header and does not define the name below. Nothing
// needs to be unregistered, because the unwinder is a part of the library.

extern "C" {
extern const char supra_unwind_tables[] __attribute__((weak, visibility("hidden")));
// Of libgcc. It uses the memory at `object`: six words, eight in later versions.
void __register_frame_info(const void* tables, void* object);
}

__attribute__((constructor(101))) static void register_unwind_tables() {
  static void* object[16];
  if (supra_unwind_tables) __register_frame_info(supra_unwind_tables, object);
}
