#pragma once
#include <algorithm>
#include <initializer_list>

#include "tensor/error.h"
#include "tensor/file.h"

namespace supra {

// Makes the folder of a command that writes files of fixed names. `first`: those, one of which the command
// writes before all others. Throws Error where other files are in the folder and none of these: a user's
// might have one of those names.
inline void make_output_folder(const Path& folder, std::initializer_list<const char*> first) {
  make_directories(folder);
  const bool ours = std::any_of(first.begin(), first.end(),
                                [&](const char* name) { return std::filesystem::exists(folder / name); });
  CHECK(
      ours || std::filesystem::is_empty(folder),
      "%s: holds other files, which might be overwritten, and no %s of a run before (give another --output)",
      folder.c_str(), *first.begin());
}

}  // namespace supra
