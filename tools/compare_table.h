#pragma once
#include "tools/compare_topics.h"

namespace supra {

// A model in the table.
struct Column {
  std::string name;
  bool same_vocabulary = true;  // as the teacher: else nats a token mean something else
  Json report;                  // all that was measured of it
};

// Figures side by side: a column a model, the teacher first.
struct Table {
  struct Cell {
    std::optional<Figure> figure;  // none: it was not measured of this model
    std::optional<double> kept, kept_error;
    std::vector<size_t> notes;  // numbers of foot notes, from 1
  };
  struct Row {
    std::string title, name;  // rows of one title stand together
    std::vector<Cell> cells;
  };
  std::vector<std::string> columns;
  std::vector<Row> rows;
  std::vector<std::string> notes;
};

// What a student keeps of its teacher's distance from chance, (student - chance) / (teacher - chance), and its standard error:
// of items that both were asked by pairs, otherwise as if the two errors were independent. Nothing where the teacher itself is not
// better than chance by two standard errors.
struct KeptPart {
  double part, error;
};
std::optional<KeptPart> kept_part(const Figure& teacher, const Figure& student);

Table make_table(const std::vector<Topic>& topics, const std::vector<Column>& columns);

std::string as_text(const Table& table);
std::string as_markdown(const Table& table);
Json as_json(const Table& table);  // [{"title","row","unit","cells":[{"value","stderr","kept","kept_stderr","notes"}]}]

// A picture for each name that the curves have, in the folder. Returns the files.
std::vector<Path> draw_curves(const std::vector<Topic>& topics, const std::vector<Column>& columns, const Path& folder);

}  // namespace supra
