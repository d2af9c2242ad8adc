#pragma once
#include "supra/formats/file.h"

namespace supra {

// The folder of the softmax model that comes with supra. Searched in this order: the source tree if it is the working directory,
// the place where make install put it, the source tree of the build. Throws Error if there is none.
Path own_teacher();

}  // namespace supra
