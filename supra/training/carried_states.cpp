#include "supra/training/carried_states.h"

#include "supra/formats/state_file.h"

namespace supra {

static std::string prefix_of(size_t part, const char* whose) { return format("part%zu.%s.", part, whose); }

// Calls f for each state, with the prefix of its tensors and its model.
template <class Carried, class F>
static void each_state(const Decoder& student, const Decoder* teacher, Carried& carried, F f) {
  for (size_t i = 0; i < carried.size(); i++) {
    f(prefix_of(i, "student"), &student, carried[i].student);
    f(prefix_of(i, "teacher"), teacher, carried[i].teacher);
  }
}

NamedTensors carried_tensors(const Decoder& student, const Decoder* teacher, const std::vector<CarriedStates>& carried) {
  NamedTensors tensors;
  each_state(student, teacher, carried, [&](const std::string& prefix, const Decoder* decoder, const State& state) {
    if (state.batch() == 0) return;
    const NamedTensors part = state_tensors(*decoder, state, prefix);
    tensors.insert(tensors.end(), part.begin(), part.end());
  });
  return tensors;
}

void read_carried_states(const Path& checkpoint, const Decoder& student, const Decoder* teacher, int64_t rows,
                         std::vector<CarriedStates>& carried) {
  const auto file = open_carried_states(checkpoint);
  if (!file) return;
  const auto has = [&](const std::string& prefix) { return file->find(prefix + "positions") != nullptr; };
  CHECK(has(prefix_of(carried.size() - 1, "student")) && !has(prefix_of(carried.size(), "student")),
        "%s: has the states of carried rows for a different number of parts than %zu (give the same --accumulate)",
        file->path().c_str(), carried.size());
  each_state(student, teacher, carried, [&](const std::string& prefix, const Decoder* decoder, State& state) {
    if (has(prefix)) state = read_state(*file, *decoder, rows, prefix);
  });
}

}  // namespace supra
