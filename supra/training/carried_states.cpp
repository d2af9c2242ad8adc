#include "supra/training/carried_states.h"

#include "supra/formats/state_file.h"

namespace supra {

static std::string prefix_of(size_t part, const char* whose) { return format("part%zu.%s.", part, whose); }

NamedTensors carried_tensors(const Decoder& student, const Decoder* teacher, const std::vector<CarriedStates>& carried) {
  NamedTensors tensors;
  for (size_t i = 0; i < carried.size(); i++) {
    const auto add = [&](const char* whose, const Decoder* decoder, const State& state) {
      if (state.batch() == 0) return;
      const NamedTensors part = state_tensors(*decoder, state, prefix_of(i, whose));
      tensors.insert(tensors.end(), part.begin(), part.end());
    };
    add("student", &student, carried[i].student);
    add("teacher", teacher, carried[i].teacher);
  }
  return tensors;
}

void read_carried_states(const Path& checkpoint, const Decoder& student, const Decoder* teacher, int64_t rows,
                         std::vector<CarriedStates>& carried) {
  const auto file = open_carried_states(checkpoint);
  if (!file) return;
  const auto has = [&](size_t part) { return file->find(prefix_of(part, "student") + "positions") != nullptr; };
  CHECK(has(carried.size() - 1) && !has(carried.size()),
        "%s: has the states of carried rows for a different number of parts than %zu (give the same --accumulate)",
        file->path().c_str(), carried.size());
  for (size_t i = 0; i < carried.size(); i++) {
    const auto restore = [&](const char* whose, const Decoder* decoder, State& into) {
      const std::string prefix = prefix_of(i, whose);
      if (file->find(prefix + "positions")) into = read_state(*file, *decoder, rows, prefix);
    };
    restore("student", &student, carried[i].student);
    restore("teacher", teacher, carried[i].teacher);
  }
}

}  // namespace supra
