#pragma once
#include <algorithm>
#include <initializer_list>

#include "supra/formats/file.h"
#include "tensor/error.h"

namespace supra {

// Creates the output folder of a command that writes files with fixed names. `first`: names of which the command
// writes one before all others. Throws Error if the folder has other files and none of these: the command could
// overwrite files of the user.
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
