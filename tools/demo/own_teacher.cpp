#include "tools/demo/own_teacher.h"

#include "tensor/error.h"

namespace supra {

Path own_teacher() {
  std::error_code error;
  const Path bin = std::filesystem::canonical("/proc/self/exe", error).parent_path();
  const Path installed = bin.parent_path() / "share/supra/teacher";
  for (const Path& folder : {Path("tools/demo/teacher"), installed, bin.parent_path().parent_path() / "tools/demo/teacher"})
    if (std::filesystem::exists(folder / "config.json")) return folder;
  fail("there is no teacher in tools/demo/teacher or %s (give --teacher MODEL, run it in the source folder, or make install)", installed.c_str());
}

}  // namespace supra
