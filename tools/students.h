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
    new_weights,       // those that linearization adds, alone
    new_weights_first  // for the first third of the tokens, then all: the paper's two steps
  };
  std::string name;
  LinearizeOptions linear;              // its key_dim is a multiple of the features that a query has; 0 is 1
  std::optional<RecipeKind> recipe;     // none: not trained; a SUPRA layer is calibrated
  double transfer_share = 0;
  Trains trains = Trains::all;
  bool in_study = false;  // a switch of the paper's ablations (its table 3), or their subject
};

// All of them, the cheaper ones first.
std::vector<Student> students();

// The student, not trained yet.
Model make_student(const Student& student, const Model& teacher, uint64_t seed);

}  // namespace supra
