#pragma once
#include "tools/compare/topics.h"

namespace supra {

// A model in the table.
struct Column {
  std::string name;
  bool same_vocabulary = true;  // the same as the teacher's; otherwise nats per token cannot be compared
  Json report;                  // all measurements of the model
};

// A table with a column per model, the teacher first.
struct Table {
  struct Cell {
    std::optional<Figure> figure;  // none: not measured for this model
    std::optional<double> kept, kept_error;
    std::vector<size_t> notes;  // numbers of footnotes, from 1
  };
  struct Row {
    std::string title, name;  // rows with the same title are grouped
    std::vector<Cell> cells;
  };
  std::vector<std::string> columns;
  std::vector<Row> rows;
  std::vector<std::string> notes;
};

// The part of its teacher's distance from chance that a student keeps, (student - chance) / (teacher - chance), and its standard
// error. If both answered the same items, the error is computed from pairs; otherwise the two errors count as independent. Empty
// if the teacher is not better than chance by two standard errors.
struct KeptPart {
  double part, error;
};
std::optional<KeptPart> kept_part(const Figure& teacher, const Figure& student);

Table make_table(const std::vector<Topic>& topics, const std::vector<Column>& columns);

std::string as_text(const Table& table);
std::string as_markdown(const Table& table);
Json as_json(const Table& table);  // [{"title","row","unit","cells":[{"value","stderr","kept","kept_stderr","notes"}]}]

// Draws one picture for each picture name of the curves into the folder. Returns the files.
std::vector<Path> draw_curves(const std::vector<Topic>& topics, const std::vector<Column>& columns, const Path& folder);

}  // namespace supra
