#pragma once
#include <optional>
#include <string>
#include <vector>

#include "supra/linearize.h"
#include "supra/training/train.h"

namespace supra {

// A student of supra lab: how a teacher is linearized, and how the student is trained.
struct Student {
  enum class Trains {
    all,
    new_weights,       // only the weights that linearization adds
    new_weights_first  // these for the first third of the tokens, then all: the paper's two steps
  };
  std::string name;
  LinearizeOptions linear;              // here key_dim is a multiple of the size of a query; 0 means 1
  std::optional<RecipeKind> recipe;     // none: not trained; SUPRA layers are calibrated
  double transfer_share = 0;
  Trains trains = Trains::all;
  bool in_study = false;  // an option of the paper's ablations (its table 3), or their baseline
};

// All students, the cheaper ones first.
std::vector<Student> students();

// The untrained student.
Model make_student(const Student& student, const Model& teacher, uint64_t seed);

}  // namespace supra
