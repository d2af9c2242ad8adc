#include "tools/compare/table.h"

#include <algorithm>
#include <cmath>

#include "supra/evaluation/mean.h"
#include "tools/human.h"

namespace supra {
namespace {

// The standard error of mean(student - part * teacher) over items.
double paired_error(const std::string& teacher, const std::string& student, double part) {
  Mean difference;
  for (size_t i = 0; i < student.size(); i++) difference.add((student[i] == '1') - part * (teacher[i] == '1'));
  return difference.error();
}

// The row with this title and name; a new one comes after the last with this title.
Table::Row& row_of(Table& table, const std::string& title, const std::string& name) {
  auto at = table.rows.end();
  for (auto row = table.rows.begin(); row != table.rows.end(); ++row) {
    if (row->title != title) continue;
    if (row->name == name) return *row;
    at = row + 1;
  }
  return *table.rows.insert(at, {title, name, std::vector<Table::Cell>(table.columns.size())});
}

size_t note_number(Table& table, const std::string& note) {
  const auto at = std::find(table.notes.begin(), table.notes.end(), note);
  if (at != table.notes.end()) return static_cast<size_t>(at - table.notes.begin()) + 1;
  table.notes.push_back(note);
  return table.notes.size();
}

std::string number(double value, Unit unit) {
  switch (unit) {
    case Unit::percent:
      return format("%.1f", 100 * value);
    case Unit::nats:
      return format("%.3f", value);
    case Unit::bits:
      return format("%.4f", value);
    case Unit::bytes:
      return format_bytes(value);
    case Unit::per_second:
      return format("%.0f", value);
  }
  return "";
}

const char* name_of(Unit unit) {
  constexpr const char* kNames[] = {"part", "nats", "bits", "bytes", "per_second"};
  return kNames[static_cast<int>(unit)];
}

std::string text_of(const Table::Cell& cell) {
  if (!cell.figure) return "-";
  const Figure& f = *cell.figure;
  std::string text = number(f.value, f.unit);
  if (f.error) text += " +- " + number(*f.error, f.unit);
  if (cell.kept) text += format(" (%.0f +- %.0f)", 100 * *cell.kept, 100 * *cell.kept_error);
  for (const size_t note : cell.notes) text += format(" [%zu]", note);
  return text;
}

constexpr const char* kLegend =
    "+-: the standard error; of speeds, half the distance of the quartiles. In brackets: % of the teacher's distance from chance that the "
    "student keeps.";

}  // namespace

std::optional<KeptPart> kept_part(const Figure& teacher, const Figure& student) {
  if (!teacher.chance || !student.chance) return {};
  const double distance = teacher.value - *teacher.chance, better = teacher.falls ? -distance : distance;
  if (better <= 2 * teacher.error.value_or(0)) return {};
  const double part = (student.value - *student.chance) / distance;
  const bool pairs = !student.items.empty() && student.items.size() == teacher.items.size();
  const double error =
      pairs ? paired_error(teacher.items, student.items, part) : std::hypot(student.error.value_or(0), part * teacher.error.value_or(0));
  return KeptPart{part, error / std::abs(distance)};
}

Table make_table(const std::vector<Topic>& topics, const std::vector<Column>& columns) {
  Table table;
  for (const Column& column : columns) table.columns.push_back(column.name);
  for (const Topic& topic : topics) {
    for (size_t i = 0; i < columns.size(); i++) {
      const Json* report = columns[i].report.find(topic.measure.name);
      if (!report) continue;
      for (const Figure& figure : topic.figures(*report)) {
        Table::Row& row = row_of(table, topic.title, figure.row);
        Table::Cell& cell = row.cells[i];
        cell.figure = figure;
        if (!figure.note.empty()) cell.notes.push_back(note_number(table, figure.note));
        const bool comparable = columns[i].same_vocabulary || figure.unit != Unit::nats;
        if (!comparable)
          cell.notes.push_back(
              note_number(table, "another vocabulary than the teacher's: nats a token are not comparable, bits a byte are"));
        if (i == 0 || !comparable || !row.cells[0].figure) continue;
        if (const auto kept = kept_part(*row.cells[0].figure, figure)) cell.kept = kept->part, cell.kept_error = kept->error;
      }
    }
  }
  return table;
}

std::string as_text(const Table& table) {
  size_t first = 0;
  std::vector<size_t> widths;
  for (const Table::Row& row : table.rows) first = std::max(first, row.name.size() + 2);
  for (size_t c = 0; c < table.columns.size(); c++) {
    widths.push_back(table.columns[c].size());
    for (const Table::Row& row : table.rows) widths[c] = std::max(widths[c], text_of(row.cells[c]).size());
  }
  const auto padded = [](const std::string& text, size_t width) { return text + std::string(width - std::min(width, text.size()), ' '); };
  std::string out = padded("", first), title;
  for (size_t c = 0; c < table.columns.size(); c++) out += "  " + padded(table.columns[c], widths[c]);
  for (const Table::Row& row : table.rows) {
    while (out.back() == ' ') out.pop_back();
    if (row.title != title) out += "\n" + (title = row.title);
    out += "\n" + padded("  " + row.name, first);
    for (size_t c = 0; c < row.cells.size(); c++) out += "  " + padded(text_of(row.cells[c]), widths[c]);
  }
  while (out.back() == ' ') out.pop_back();
  out += std::string("\n") + kLegend + "\n";
  for (size_t i = 0; i < table.notes.size(); i++) out += format("[%zu] ", i + 1) + table.notes[i] + "\n";
  return out;
}

std::string as_markdown(const Table& table) {
  std::string out = "| |", title;
  for (const std::string& name : table.columns) out += " " + name + " |";
  out += "\n| --- |";
  for (size_t c = 0; c < table.columns.size(); c++) out += " ---: |";
  out += "\n";
  for (const Table::Row& row : table.rows) {
    if (row.title != title) {
      out += "| **" + (title = row.title) + "** |";
      for (size_t c = 0; c < table.columns.size(); c++) out += " |";
      out += "\n";
    }
    out += "| " + row.name + " |";
    for (const Table::Cell& cell : row.cells) out += " " + text_of(cell) + " |";
    out += "\n";
  }
  out += std::string("\n") + kLegend + "\n";
  for (size_t i = 0; i < table.notes.size(); i++) out += format("\n[%zu] ", i + 1) + table.notes[i] + "\n";
  return out;
}

Json as_json(const Table& table) {
  Json rows = Json::array();
  for (const Table::Row& row : table.rows) {
    Json cells = Json::array();
    const char* unit = "";
    for (const Table::Cell& cell : row.cells) {
      Json json = Json::object();
      if (cell.figure) {
        unit = name_of(cell.figure->unit);
        json.set("value", cell.figure->value);
        if (cell.figure->error) json.set("stderr", *cell.figure->error);
        if (cell.figure->chance) json.set("chance", *cell.figure->chance);
      }
      if (cell.kept) json.set("kept", *cell.kept), json.set("kept_stderr", *cell.kept_error);
      if (!cell.notes.empty()) {
        Json notes = Json::array();
        for (const size_t note : cell.notes) notes.push(table.notes[note - 1]);
        json.set("notes", std::move(notes));
      }
      cells.push(std::move(json));
    }
    rows.push(Json::object({{"title", row.title}, {"row", row.name}, {"unit", unit}, {"cells", std::move(cells)}}));
  }
  return rows;
}

}  // namespace supra
