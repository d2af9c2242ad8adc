#pragma once
#include "supra/evaluation/position_bias.h"
#include "supra/evaluation/tasks.h"
#include "supra/formats/parse/json.h"

// Tasks that are answered: the reports of `supra eval --task` and `supra eval --position-bias`.

namespace supra {

// {"items","accuracy","stderr","all_right",...,"by_shift":[…],"letters":{"A":…}}
Json to_json(const PositionBias& bias);

// Says on stderr how many prompts were cut; nothing where none was.
void tell_cut(int64_t cut, int64_t context);

// `context`: ids that are read at most; 0: any number
int eval_tasks(const Model& model, const std::vector<Task>& tasks, int64_t context, bool bos, bool json);
int eval_position_bias(const Model& model, const std::vector<Task>& subjects, int64_t context, bool bos, bool json);

}  // namespace supra
