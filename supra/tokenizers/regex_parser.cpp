#include "supra/tokenizers/regex_parser.h"

#include <charconv>

#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

static constexpr uint32_t kNoEnd = UINT32_MAX;
static constexpr size_t kMostInstructions = 20000;

void RegexParser::refuse(const std::string& what) const {
  fail("%s: the regular expression %s: %s (at \"%s\"); ignoring it would give wrong ids", where_.c_str(), std::string(expression_).c_str(),
       what.c_str(), std::string(rest_.substr(0, 20)).c_str());
}

bool RegexParser::take(std::string_view text) {
  const bool found = rest_.starts_with(text);
  if (found) rest_.remove_prefix(text.size());
  return found;
}

uint32_t RegexParser::take_character() {
  if (rest_.empty()) refuse("it ends too soon");
  const Character c = first_character(rest_);
  rest_.remove_prefix(c.size);
  return c.code_point;
}

void RegexParser::parse() {
  groups_.push_back({0, 0, {}, Op::match, false});
  while (!rest_.empty()) {
    size_t begin = code.size();
    if (take("(")) {
      open_group();
      continue;
    }
    if (take("|")) {
      end_alternative();
      continue;
    }
    if (take(")")) {
      if (groups_.size() == 1) refuse("a closing bracket without an opening one");
      begin = close_group();
    } else {
      read_anchor_or_escape();
    }
    while (read_repeat(begin)) {
    }
    if (code.size() > kMostInstructions) refuse("it is too large");
  }
  if (groups_.size() > 1) refuse("an opening bracket without a closing one");
  close_group();
  code.push_back({Op::match});
}

void RegexParser::open_group() {
  Group group = {code.size(), 0, {}, Op::match, groups_.back().folds};
  if (take("?")) {
    const bool off = take("-");
    if (take("i")) {
      if (take(")")) {
        if (code.size() != groups_.back().alternative) refuse("options in the middle of an alternative are not supported");
        groups_.back().folds = !off;
        return;
      }
      group.folds = !off;
      if (!take(":")) refuse("these options are not supported");
    } else if (off) {
      refuse("these options are not supported");
    } else if (take("=")) {
      group.end = Op::end_ahead;
    } else if (take("!")) {
      group.end = Op::end_not_ahead;
    } else if (take(">")) {
      group.end = Op::end_atomic;
    } else if (rest_.starts_with("<=") || rest_.starts_with("<!")) {
      refuse("lookbehind is not supported");
    } else if (take("<") || take("P<")) {
      while (take_character() != '>') {
      }
    } else if (!take(":")) {
      refuse("this kind of group is not supported");
    }
  }
  if (group.end != Op::match) code.push_back({Op::begin});
  group.alternative = code.size();
  groups_.push_back(std::move(group));
}

// Returns the beginning of the group.
size_t RegexParser::close_group() {
  const Group group = std::move(groups_.back());
  groups_.pop_back();
  for (const size_t exit : group.exits) code[exit].argument = static_cast<int32_t>(code.size() - exit);
  if (group.end != Op::match) code.push_back({group.end});
  if (group.end == Op::end_not_ahead) code[group.begin].argument = static_cast<int32_t>(code.size() - group.begin);
  return group.begin;
}

void RegexParser::end_alternative() {
  Group& group = groups_.back();
  code.insert(code.begin() + static_cast<std::ptrdiff_t>(group.alternative), {Op::split});
  group.exits.push_back(code.size());
  code.push_back({Op::jump});
  code[group.alternative].argument = static_cast<int32_t>(code.size() - group.alternative);
  group.alternative = code.size();
}

void RegexParser::read_anchor_or_escape() {
  static constexpr struct {
    std::string_view text;
    Op op;
    bool flag;
  } kAnchors[] = {{"^", Op::line_begin, false}, {"$", Op::line_end, false}, {"\\b", Op::edge, false}, {"\\B", Op::edge, true}, {"\\z", Op::text_end, false}};
  for (const auto& [text, op, flag] : kAnchors) {
    if (take(text)) return code.push_back({op, flag});
  }
  if (take("[")) return read_class();
  Regex::Set set;
  if (take(".")) {
    set.negated = true;
    set.ranges.push_back({'\n', '\n'});
  } else if (rest_.starts_with("\\w") || rest_.starts_with("\\W")) {
    set.negated = rest_[1] == 'W';
    set.categories = kWords;
    for (const uint32_t c : Regex::kLatinWords) set.ranges.push_back({c, c});
    rest_.remove_prefix(2);
  } else if (take("\\")) {
    if (const int64_t c = read_escape(set); c >= 0) set.ranges.push_back({static_cast<uint32_t>(c), static_cast<uint32_t>(c)});
  } else {
    if (rest_[0] == '*' || rest_[0] == '+' || rest_[0] == '?') refuse("there is nothing to repeat");
    const uint32_t c = take_character();
    set.ranges.push_back({c, c});
  }
  add_set(std::move(set));
}

void RegexParser::read_class() {
  Regex::Set set;
  set.negated = take("^");
  for (bool first = true; first || !take("]"); first = false) {
    if (rest_.starts_with("[")) refuse("nested classes are not supported");
    if (rest_.starts_with("&&")) refuse("intersections of classes (&&) are not supported");
    const int64_t low = take("\\") ? read_escape(set) : take_character();
    if (low < 0) continue;
    int64_t high = low;
    if (rest_.starts_with('-') && !rest_.starts_with("-]")) {
      take("-");
      high = take("\\") ? read_escape(set) : take_character();
      if (high < low) refuse("a range runs backwards");
    }
    set.ranges.push_back({static_cast<uint32_t>(low), static_cast<uint32_t>(high)});
  }
  add_set(std::move(set));
}

int64_t RegexParser::read_escape(Regex::Set& set) {
  const uint32_t c = take_character();
  const auto add = [&](uint32_t categories, bool negated) {
    set.categories |= negated ? ~categories : categories;
    return -1;
  };
  const auto hex = [&](size_t digits) -> int64_t {
    const bool brackets = take("{");
    uint32_t value = 0;
    const size_t most = std::min(brackets ? 8 : digits, rest_.size());
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + most, value, 16);
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    if (error != std::errc() || (brackets && !take("}")) || value > 0x10ffff) refuse("this is not the number of a character");
    return value;
  };
  constexpr std::string_view kNames = "nrtfvae", kControls = "\n\r\t\f\v\a\x1b";
  switch (c) {
    case 's': return add(kSpaces, false);
    case 'S': return add(kSpaces, true);
    case 'w': return add(kWords, false);
    case 'W': return add(kWords, true);
    case 'd': return add(categories_named("Nd"), false);
    case 'D': return add(categories_named("Nd"), true);
    case 'p': return add(read_property(), false);
    case 'P': return add(read_property(), true);
    case 'x': return hex(2);
    case 'u': return hex(4);
  }
  if (const size_t name = kNames.find(static_cast<char>(c)); c < 128 && name != kNames.npos) return kControls[name];
  if (c < 128 && isalnum(static_cast<int>(c))) refuse(format("the escape \\%c is not supported", static_cast<char>(c)));
  return c;
}

uint32_t RegexParser::read_property() {
  const size_t end = rest_.find('}');
  if (!take("{") || end == rest_.npos) refuse("a property must be in curly brackets");
  const bool negated = take("^");
  const std::string name(rest_.substr(0, rest_.find('}')));
  uint32_t categories = categories_named(name);
  for (const auto& [known, same] : {std::pair("Letter", "L"), {"Punctuation", "P"}, {"Number", "N"}, {"Symbol", "S"}, {"Mark", "M"}}) {
    if (name == known) categories = categories_named(same);
  }
  if (categories == 0) refuse(format("the property %s is not supported (general categories are)", name.c_str()));
  rest_.remove_prefix(name.size() + 1);
  return negated ? ~categories : categories;
}

bool RegexParser::read_repeat(size_t begin) {
  uint32_t least = 0, most = kNoEnd;
  bool counted = false, fixed = false;
  if (take("?")) {
    most = 1;
  } else if (take("+")) {
    least = 1;
  } else if (!take("*")) {
    // {3} {3,} {,3} {3,5}; anything else is text
    const size_t end = rest_.starts_with('{') ? rest_.find('}') : rest_.npos;
    if (end == rest_.npos) return false;
    const std::string_view inside = rest_.substr(1, end - 1);
    if (inside.size() < 1 || inside.find_first_not_of("0123456789,") != inside.npos || inside == ",") return false;
    const size_t comma = std::min(inside.find(','), inside.size());
    const auto read = [&](std::string_view digits, uint32_t& value) {
      if (!digits.empty() && (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc() || value > 100000))
        refuse("no more than 100000 repeats are supported");
    };
    read(inside.substr(0, comma), least);
    fixed = comma == inside.size();
    if (fixed)
      most = least;
    else
      read(inside.substr(comma + 1), most);
    if (most < least) refuse("the numbers of a repeat run backwards");
    counted = true;
    rest_.remove_prefix(end + 1);
  }
  // in Oniguruma {3}? means (?:{3})?
  const bool lazy = !fixed && take("?"), possessive = !lazy && !counted && take("+");
  repeat(begin, least, most, lazy, possessive);
  return true;
}

void RegexParser::repeat(size_t begin, uint32_t least, uint32_t most, bool lazy, bool possessive) {
  if (code.size() == begin + 1 && code[begin].op == Op::set && !lazy) {
    code[begin] = {Op::repeat, possessive, code[begin].argument, least, most};
    return;
  }
  const std::vector<Regex::Instruction> body(code.begin() + static_cast<std::ptrdiff_t>(begin), code.end());
  const size_t size = body.size(), copies = most == kNoEnd ? size_t{least} + 1 : most;
  if (copies * (size + 1) + begin > kMostInstructions) refuse("it is too large");
  const auto append = [&] { code.insert(code.end(), body.begin(), body.end()); };
  code.resize(begin);
  for (uint32_t i = 0; i < least; i++) append();
  const auto split = [&](size_t distance) { code.push_back({Op::split, lazy, static_cast<int32_t>(distance)}); };
  if (most == kNoEnd) {
    split(size + 2);
    append();
    code.push_back({Op::jump, false, -static_cast<int32_t>(size + 1)});
  } else {
    for (size_t left = most - least; left > 0; left--) {
      split(left * (size + 1));
      append();
    }
  }
  if (!possessive) return;
  code.insert(code.begin() + static_cast<std::ptrdiff_t>(begin), {Op::begin});
  code.push_back({Op::end_atomic});
}

void RegexParser::add_set(Regex::Set set) {
  if (groups_.back().folds) add_both_cases(set);
  // fills in the bits of the characters below 128, which has() reads
  for (uint32_t c = 0; c < 128; c++) {
    bool inside = is_in(set.categories, c);
    for (const auto& [low, high] : set.ranges) inside = inside || (c >= low && c <= high);
    set.ascii[c / 64] |= uint64_t{inside != set.negated} << (c % 64);
  }
  code.push_back({Op::set, false, static_cast<int32_t>(sets.size())});
  sets.push_back(std::move(set));
}

void RegexParser::add_both_cases(Regex::Set& set) const {
  const auto given = set.ranges;
  const auto add = [&](uint32_t c) { set.ranges.push_back({c, c}); };
  for (const auto& [low, high] : given) {
    for (uint32_t c = 'A'; c <= 'Z'; c++) {
      const bool upper = c >= low && c <= high, lower = c + 32 >= low && c + 32 <= high;
      if (!upper && !lower) continue;
      add(c);
      add(c + 32);
      // the long s and the Kelvin sign
      if (c == 'S') add(0x17f);
      if (c == 'K') add(0x212a);
    }
    if (low != high || low < 128) continue;
    const uint32_t small = lower_case(low);
    add(small);
    for (const uint32_t c : capitals_of(small)) add(c);
  }
}

}  // namespace supra
