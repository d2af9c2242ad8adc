#include <algorithm>
#include <cctype>
#include <cstdio>
#include <utility>

#include "supra/formats/parse/json.h"
#include "supra/tokenizers/shard.h"
#include "tools/command.h"
#include "tools/human.h"
#include "tools/progress.h"

namespace supra {
namespace {

Json to_json(const std::vector<int32_t>& ids) {
  Json list = Json::array();
  for (int32_t id : ids) list.push(id);
  return list;
}

void print_ids(const std::vector<int32_t>& ids, bool json) {
  if (json) {
    Json report = Json::object();
    report.set("ids", to_json(ids));
    printf("%s\n", report.dump().c_str());
    return;
  }
  for (size_t i = 0; i < ids.size(); i++) printf("%s%d", i ? " " : "", ids[i]);
  printf("\n");
}

// An object per line: {"text": ..., "parse_special": ..., "add_special": ...} -> {"ids": [...], "decoded": ...}
void encode_lines(const Tokenizer& tokenizer, const Path& path, const EncodeOptions& options) {
  const std::string text = read_file(path);
  for (size_t at = 0, end, number = 1; at < text.size(); at = end + 1, number++) {
    end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Json row = Json::parse(line, path.string() + ":" + std::to_string(number));
    const EncodeOptions own{row.flag("add_special", options.add_special), row.flag("parse_special", options.parse_special)};
    const std::vector<int32_t> ids = tokenizer.encode(row.text("text"), own);
    Json result = Json::object();
    result.set("ids", to_json(ids));
    result.set("decoded", tokenizer.decode(ids, true));
    printf("%s\n", result.dump().c_str());
  }
}

// The ids of the flag, or from stdin, separated by blanks or commas.
std::vector<int32_t> read_ids(const std::vector<int64_t>& given) {
  const auto checked = [](int64_t id) {
    CHECK(std::in_range<int32_t>(id), "--decode: %ld is not a token id (ids are whole numbers below 2^31)", static_cast<long>(id));
    return static_cast<int32_t>(id);
  };
  std::vector<int32_t> ids;
  for (int64_t id : given) ids.push_back(checked(id));
  if (!ids.empty()) return ids;
  std::string word;
  for (int c = 0; c != EOF;) {
    c = getchar();
    if (c != EOF && c != ',' && !isspace(c)) {
      word += static_cast<char>(c);
    } else if (!word.empty()) {
      int64_t id;
      read_value(word, id);
      ids.push_back(checked(id));
      word.clear();
    }
  }
  return ids;
}

// Encodes a file's documents as for training and writes a shard.
void write_shard(const Tokenizer& tokenizer, const Path& input, bool lines, const std::string& separator,
                 const Path& output, bool json) {
  std::error_code absent;
  CHECK(!std::filesystem::equivalent(input, output, absent), "%s: is the text itself, and would be overwritten (give another --output)",
        output.c_str());
  ShardWriter shard(output, tokenizer);
  const int64_t size = static_cast<int64_t>(MappedFile(input).size());
  Progress progress("bytes", size);
  encode_file(input, tokenizer, separator, lines, [&](const EncodedDocument& document) {
    shard.add(document);
    progress.update(document.read, format_count(static_cast<double>(shard.tokens())) + " tokens");
  });
  progress.update(size);
  shard.finish();
  if (json) {
    Json report = Json::object();
    report.set("tokens", shard.tokens());
    report.set("documents", shard.documents());
    report.set("text_bytes", shard.text_bytes());
    printf("%s\n", report.dump().c_str());
    return;
  }
  printf("wrote %s: %s tokens in %s documents, %s of text\n", output.c_str(),
         format_count(static_cast<double>(shard.tokens())).c_str(), format_count(static_cast<double>(shard.documents())).c_str(),
         format_bytes(static_cast<double>(shard.text_bytes())).c_str());
}

}  // namespace

int run_tokenize(Args& args) {
  std::string what, tokenizer_file, separator;
  std::optional<std::string> text;
  Path file, lines, shard;
  EncodeOptions options;
  std::vector<int64_t> ids;
  bool decode = false, json = false;
  args.positional(&what, "MODEL|TOKENIZER", "a model, a tokenizer file, or 'bytes'");
  args.flag(&text, "--text", "S", "the text to encode");
  args.flag(&file, "--file", "F", "a file to encode; with -o each line of a .jsonl is a document, as in --data");
  args.flag(&lines, "--lines", "F.jsonl", "one object with \"text\" per line; prints the ids and the decoded text of each");
  args.flag(&options.parse_special, "--parse-special", "special tokens in the text become their ids");
  args.flag(&options.add_special, "--add-special", "add BOS and EOS if the tokenizer adds them");
  args.flag(&decode, "--decode", "print the text of --ids, or of ids on stdin");
  args.flag(&ids, "--ids", "1,2,3", "ids to decode");
  args.flag(&shard, "--output -o", "shard.bin", "write the documents of --file or --lines as a shard for supra uptrain --data, with the tokenizer's BOS and EOS");
  args.flag(&separator, "--docs", "SEP", "separator of documents in --file, for -o; without it the file is one document");
  args.flag(&tokenizer_file, "--tokenizer", "FILE", "tokenizer to use instead of the model's");
  common_flags(args, &json);
  args.parse();
  if (!decode && !text && file.empty() && lines.empty()) args.misused("give --text S, --file F, --lines F.jsonl or --decode");
  if (!shard.empty() && file.empty() && lines.empty()) args.misused("-o takes the text of --file F or --lines F.jsonl");

  const auto tokenizer = load_tokenizer(tokenizer_file.empty() ? what : tokenizer_file);
  for (const std::string& note : tokenizer->notes()) fprintf(stderr, "%s\n", note.c_str());
  if (!shard.empty()) {
    write_shard(*tokenizer, lines.empty() ? file : lines, !lines.empty() || is_json_lines(file), separator, shard, json);
  } else if (decode) {
    const std::string decoded = tokenizer->decode(read_ids(ids));
    if (json) {
      Json report = Json::object();
      report.set("text", decoded);
      printf("%s\n", report.dump().c_str());
    } else {
      fwrite(decoded.data(), 1, decoded.size(), stdout);
      printf("\n");
    }
  } else if (!lines.empty()) {
    encode_lines(*tokenizer, lines, options);
  } else {
    print_ids(tokenizer->encode(text ? *text : read_file(file), options), json);
  }
  return 0;
}

}  // namespace supra
