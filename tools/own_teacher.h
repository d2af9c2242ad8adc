#pragma once
#include "tensor/file.h"

namespace supra {

// The folder of the softmax model that comes with supra: of the source where that is the working directory, else the one that
// make install put beside the program, else of the source that the program was built in. Throws Error where there is none.
Path own_teacher();

}  // namespace supra
