#include "supra/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "supra/tokenizers/json_tokenizer.h"
#include "tensor/error.h"

namespace supra {

namespace {

int32_t clamped(int64_t id) { return static_cast<int32_t>(std::clamp<int64_t>(id, -1, INT32_MAX)); }

std::vector<AddedToken> read_added_tokens(const Json& json) {
  std::vector<AddedToken> all;
  const Json* tokens = json.find("added_tokens");
  if (!tokens) return all;
  for (const Json& token : tokens->as_array("added_tokens")) {
    AddedToken added = {clamped(token.integer("id")), token.text("content"), token.flag("special", false), token.flag("normalized", false)};
    added.strips_left = token.flag("lstrip", false);
    added.strips_right = token.flag("rstrip", false);
    added.single_word = token.flag("single_word", false);
    if (!added.text.empty()) all.push_back(std::move(added));
  }
  return all;
}

// Gives an id its piece. `most` limits the gaps between ids, because a large gap takes memory out of proportion to the file.
void place(std::vector<std::string>& pieces, int64_t id, std::string_view piece, size_t most, const Json& where) {
  CHECK(id >= 0 && static_cast<size_t>(id) < most, "%s: piece \"%s\" has the id %ld, for this number of pieces ids must be below %zu",
        where.where().c_str(), std::string(piece).c_str(), static_cast<long>(id), most);
  if (static_cast<size_t>(id) >= pieces.size()) pieces.resize(static_cast<size_t>(id) + 1);
  pieces[static_cast<size_t>(id)] = piece;
}

void add_merge(WordModel::Spec& model, const Json& merge) {
  if (merge.is_array()) {
    const Json::Array& pair = merge.as_array();
    CHECK(pair.size() == 2, "%s: a merge of %zu pieces, two are needed", merge.where().c_str(), pair.size());
    model.merges.emplace_back(pair[0].as_string("merge"), pair[1].as_string("merge"));
    return;
  }
  const std::string& text = merge.as_string("merge");
  const size_t space = text.find(' ');
  CHECK(space != text.npos && space > 0 && text.find(' ', space + 1) == text.npos && space + 1 < text.size(),
        "%s: merge \"%s\" is not two pieces with a space between", merge.where().c_str(), text.c_str());
  model.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
}

void read_bpe(const Json& json, size_t most, WordModel::Spec& model, std::vector<std::string>& notes) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!json.text(key, "").empty()) refuse_component(json, key);
  }
  for (const auto& [piece, id] : json.at("vocab").as_object("vocab")) place(model.pieces, id.as_integer(piece), piece, most, json);
  for (const Json& merge : json.at("merges").as_array("merges")) add_merge(model, merge);
  model.ignore_merges = json.flag("ignore_merges", false);
  model.fuse_unknown = json.flag("fuse_unk", false);
  if (const std::string unknown = json.text("unk_token", ""); !unknown.empty()) {
    // an unk_token outside the vocabulary is legal, and is not used
    const auto found = std::find(model.pieces.begin(), model.pieces.end(), unknown);
    if (found != model.pieces.end()) model.unknown = static_cast<int32_t>(found - model.pieces.begin());
  }
  if (json.number("dropout", 0) != 0) notes.push_back(json.where() + ": dropout is ignored, it is for training a tokenizer");
}

// A number as Hugging Face's library reads it: its digits as an integer, divided by a power of ten. The last bit matters:
// different ways to cut "!!!" have sums that differ only in that bit.
double score_of(double exact) {
  char text[40];
  for (int decimals = 14; decimals <= 16; decimals++) {
    snprintf(text, sizeof text, "%.*e", decimals, std::fabs(exact));
    if (strtod(text, nullptr) == std::fabs(exact)) break;
  }
  uint64_t digits = 0;
  int power = 0;
  const char* c = text;
  for (; *c && *c != 'e'; c++) {
    if (*c < '0' || *c > '9') continue;
    digits = digits * 10 + static_cast<uint64_t>(*c - '0');
    power -= c > text;
  }
  power += *c ? atoi(c + 1) : 0;
  const double scale = std::pow(10.0, std::abs(power)), whole = static_cast<double>(digits);
  return std::copysign(power < 0 ? whole / scale : whole * scale, exact);
}

void read_unigram(const Json& json, WordModel::Spec& model) {
  for (const Json& row : json.at("vocab").as_array("vocab")) {
    const Json::Array& pair = row.as_array("piece");
    CHECK(pair.size() == 2, "%s: a piece of %zu parts, its text and its score are needed", row.where().c_str(), pair.size());
    model.pieces.push_back(pair[0].as_string("piece"));
    model.scores.push_back(score_of(pair[1].as_number("score")));
  }
  CHECK(!model.pieces.empty(), "%s: a unigram model without pieces (the file is damaged)", json.where().c_str());
  model.unknown = clamped(json.integer("unk_id", -1));
  CHECK(model.unknown < static_cast<int64_t>(model.pieces.size()), "%s: unk_id is %d of %zu pieces", json.where().c_str(), model.unknown,
        model.pieces.size());
}

void read_model(const Json& json, size_t added, WordModel::Spec& model, std::vector<std::string>& notes) {
  const std::string type = json.text("type", "BPE");
  if (type == "BPE")
    read_bpe(json, 2 * (json.at("vocab").as_object("vocab").size() + added) + 1024, model, notes);
  else if (type == "Unigram")
    read_unigram(json, model);
  else
    refuse_component(json, "the model " + type + " (BPE and Unigram are read)");
  model.byte_fallback = json.flag("byte_fallback", false);
}

int32_t id_of(const std::vector<AddedToken>& added, std::string_view text) {
  for (const AddedToken& token : added) {
    if (token.text == text) return token.id;
  }
  return -1;
}

// The ids before and after a text with add_special.
Tokenizer::Marks read_template(const Json* json, const std::vector<AddedToken>& added) {
  Tokenizer::Marks marks;
  for (const Json* part : components(json, "processors")) {
    const std::string& type = part->text("type");
    std::vector<int32_t> front, behind;
    if (type == "ByteLevel") continue;
    if (type == "BertProcessing" || type == "RobertaProcessing") {
      const auto id = [&](const char* key) {
        const Json::Array& pair = part->at(key).as_array(key);
        return pair.size() == 2 ? clamped(pair[1].as_integer(key)) : -1;
      };
      front = {id("cls")};
      behind = {id("sep")};
    } else if (type == "TemplateProcessing") {
      bool after = false;
      for (const Json& item : part->at("single").as_array("single")) {
        if (item.find("Sequence")) {
          if (after) refuse_component(item, "a template with the text twice");
          after = true;
          continue;
        }
        const std::string& name = item.at("SpecialToken").text("id");
        const Json* known = part->find("special_tokens");
        const Json* token = known ? known->find(name) : nullptr;
        std::vector<int32_t>& side = after ? behind : front;
        if (token) {
          for (const Json& id : token->at("ids").as_array("ids")) side.push_back(clamped(id.as_integer("ids")));
        } else {
          side.push_back(id_of(added, name));
        }
      }
    } else {
      refuse_component(*part, "the post-processor " + type);
    }
    for (const auto* side : {&front, &behind})
      CHECK(std::count_if(side->begin(), side->end(), [](int32_t id) { return id < 0; }) == 0,
            "%s: a template with a token that is not there", part->where().c_str());
    marks.front.insert(marks.front.begin(), front.begin(), front.end());
    marks.behind.insert(marks.behind.end(), behind.begin(), behind.end());
  }
  if (marks.front.size() == 1) marks.bos = marks.front[0];
  if (marks.behind.size() == 1) marks.eos = marks.behind[0];
  return marks;
}

// tokenizer_config.json names BOS and EOS; otherwise their usual names are tried.
void read_marks(const TokenizerConfig& beside, const std::vector<AddedToken>& added, Tokenizer::Marks& marks) {
  const Json json = beside.text.empty() ? Json::object() : Json::parse(beside.text, beside.path);
  const auto find = [&](const char* key, int32_t& id, std::initializer_list<const char*> names) {
    if (const Json* token = json.find(key)) id = id_of(added, token->is_object() ? token->text("content") : token->as_string(key));
    for (const char* name : names) {
      if (id < 0) id = id_of(added, name);
    }
  };
  // add_bos_token and add_eos_token override the template
  const auto put = [&](const char* key, int32_t id, std::vector<int32_t>& side) {
    const bool has = !side.empty(), wanted = json.flag(key, has);
    if (wanted != has) side = wanted && id >= 0 ? std::vector<int32_t>{id} : std::vector<int32_t>();
    return id >= 0 && std::find(side.begin(), side.end(), id) != side.end();
  };
  find("bos_token", marks.bos, {"<|begin_of_text|>", "<s>", "<bos>", "<BOS_TOKEN>", "<|startoftext|>"});
  find("eos_token", marks.eos, {"<|end_of_text|>", "</s>", "<|endoftext|>", "<eos>", "<|END_OF_TURN_TOKEN|>", "<|im_end|>"});
  marks.bos_in_front = put("add_bos_token", marks.bos, marks.front);
  marks.eos_behind = put("add_eos_token", marks.eos, marks.behind);
}

}  // namespace

std::shared_ptr<const Tokenizer> make_json_tokenizer(const Json& json, const char* kind, TokenizerConfig beside,
                                                     const Tokenizer::Marks* given, JsonTokenizer::Files files) {
  JsonTokenizer::Parts parts = {read_added_tokens(json), Normalizer(json.find("normalizer")), PreTokenizer(json.find("pre_tokenizer")), {},
                                PieceDecoder(json.find("decoder"))};
  std::vector<std::string> notes;
  read_model(json.at("model"), parts.added.size(), parts.model, notes);
  const size_t most = 2 * (parts.model.pieces.size() + parts.added.size()) + 1024;
  for (const AddedToken& token : parts.added) {
    if (token.id < 0 || static_cast<size_t>(token.id) >= parts.model.pieces.size()) place(parts.model.pieces, token.id, "", most, json);
  }
  Tokenizer::Marks marks = given ? *given : read_template(json.find("post_processor"), parts.added);
  if (!given) read_marks(beside, parts.added, marks);
  marks.ends = beside.ends;
  for (const auto& side : {marks.front, marks.behind}) {
    for (const int32_t id : side)
      CHECK(id >= 0 && static_cast<size_t>(id) < parts.model.pieces.size(), "%s: the template has the id %d of %zu", json.where().c_str(), id,
            parts.model.pieces.size());
  }
  return std::make_shared<JsonTokenizer>(kind, std::move(parts), std::move(marks), std::move(beside), std::move(notes), json.where(), std::move(files));
}

std::shared_ptr<const Tokenizer> make_json_tokenizer(const MappedFile& file, const ModelFiles& beside) {
  TokenizerConfig config = read_tokenizer_config(beside);
  config.files.insert(config.files.begin(), {"tokenizer.json", std::string(file.text())});
  const Json json = Json::parse(file.text(), file.path().string());
  return make_json_tokenizer(json, json.at("model").text("type", "BPE") == "Unigram" ? "unigram (tokenizer.json)" : "BPE (tokenizer.json)", std::move(config));
}

std::shared_ptr<const Tokenizer> make_gpt2_tokenizer(const MappedFile& vocabulary, const MappedFile& merges) {
  const std::string lines(merges.text());
  const Json level = Json::object({{"type", "ByteLevel"}, {"add_prefix_space", false}});
  const Json pieces = Json::parse(vocabulary.text(), vocabulary.path().string());
  std::vector<Json> pairs, added;
  for (size_t at = 0; at < lines.size();) {
    const size_t end = std::min(lines.find('\n', at), lines.size());
    std::string_view line = std::string_view(lines).substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !(at == 0 && line.starts_with("#version"))) pairs.push_back(Json(std::string(line)));
    at = end + 1;
  }
  Tokenizer::Marks marks;
  for (const auto& [piece, id] : pieces.as_object("vocab")) {
    if (piece != "<|endoftext|>") continue;
    marks.bos = marks.eos = clamped(id.as_integer(piece));
    added.push_back(Json::object({{"id", id}, {"content", piece}, {"special", true}}));
  }
  const Json all = Json::object({{"added_tokens", Json::array(std::move(added))},
                                 {"pre_tokenizer", level},
                                 {"decoder", level},
                                 {"model", Json::object({{"vocab", pieces}, {"merges", Json::array(std::move(pairs))}})}});
  TokenizerConfig beside;
  beside.files = {{"vocab.json", std::string(vocabulary.text())}, {"merges.txt", lines}};
  return make_json_tokenizer(all, "byte-level BPE (vocab.json and merges.txt)", std::move(beside), &marks);
}

}  // namespace supra
