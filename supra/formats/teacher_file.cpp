#include "supra/formats/teacher_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/ops.h"
#include "supra/formats/parse/byte_reader.h"
#include "supra/formats/parse/crc32.h"
#include "tensor/parallel.h"

namespace supra {

static_assert(std::endian::native == std::endian::little, "teacher files are little-endian");

struct TeacherFileHeader {
  char magic[8] = {'S', 'U', 'P', 'R', 'A', 'T', 'C', 'H'};
  TeacherFacts facts;
};
static_assert(sizeof(TeacherFileHeader) == 48);

constexpr int64_t kRecordHead = 8;

static int64_t id_bytes_of(int64_t vocabulary) { return vocabulary <= 1 << 16 ? 2 : 4; }

static int64_t step_bytes(int64_t vocabulary, int64_t top) { return 2 + top * (id_bytes_of(vocabulary) + 2); }

int64_t TeacherFile::row_bytes(int64_t vocabulary, int64_t top, int64_t T) {
  return kRecordHead + T * step_bytes(vocabulary, top);
}

TeacherFile::TeacherFile(const Path& path, const TeacherFacts& facts)
    : path_(path),
      O_(facts.vocabulary),
      K_(facts.top),
      id_bytes_(id_bytes_of(O_)),
      step_bytes_(step_bytes(O_, K_)),
      row_bytes_(row_bytes(O_, K_, facts.sequence)) {
  const TeacherFileHeader mine = {.facts = facts};
  if (!std::filesystem::exists(path)) write_file_atomically(path, bytes_of(mine));
  file_.emplace(path);

  TeacherFileHeader its;
  CHECK(file_->read_at(0, &its, sizeof its) == sizeof its && bytes_of(its.magic) == bytes_of(mine.magic),
        "%s: is not a teacher's cache, it does not begin with %.8s (give another --teacher-cache)", path.c_str(), mine.magic);
  const struct {
    const char* name;
    uint64_t then, now;
  } pairs[] = {{"version of this format", its.facts.version, facts.version},
               {"vocabulary", its.facts.vocabulary, facts.vocabulary},
               {"--teacher-top", its.facts.top, facts.top},
               {"--seq-len", its.facts.sequence, facts.sequence},
               {"--pack (0: stream, 1: documents)", its.facts.packing, facts.packing},
               {"--seed", its.facts.seed, facts.seed},
               {"--teacher or --products, by a hash of them", its.facts.teacher, facts.teacher},
               {"--data or --docs, by a hash of the ids", its.facts.corpus, facts.corpus}};
  for (const auto& fact : pairs) {
    CHECK(fact.then == fact.now, "%s: was written with another %s: %lu, this run has %lu (give the same, or another --teacher-cache)",
          path.c_str(), fact.name, fact.then, fact.now);
  }
}

size_t TeacherFile::offset(int64_t row) const { return sizeof(TeacherFileHeader) + static_cast<size_t>(row * row_bytes_); }

char* TeacherFile::steps(char* record, int64_t t) const { return record + kRecordHead + t * step_bytes_; }

bool TeacherFile::read(int64_t row, uint32_t text, char* record) const {
  const size_t bytes = static_cast<size_t>(row_bytes_);
  if (file_->read_at(offset(row), record, bytes) < bytes) return false;
  uint32_t checksum, its_text;
  memcpy(&checksum, record, 4);
  memcpy(&its_text, record + 4, 4);
  if (checksum != crc32(0, {record + 4, bytes - 4})) return false;
  CHECK(its_text == text, "%s: row %ld was written for other text (give another --teacher-cache)", path_.c_str(), static_cast<long>(row));
  return true;
}

void TeacherFile::write(int64_t row, uint32_t text, char* record) const {
  memcpy(record + 4, &text, 4);
  const std::string_view whole(record, static_cast<size_t>(row_bytes_));
  const uint32_t checksum = crc32(0, whole.substr(4));
  memcpy(record, &checksum, 4);
  file_->write_at(offset(row), whole);
}

static void put_half(char* to, double value) {
  // minus infinity would become NaN in products with a probability of zero
  const uint16_t half = f32_to_f16(static_cast<float>(std::max(value, -65504.0)));
  memcpy(to, &half, 2);
}

static float half_at(const char* from) {
  uint16_t half;
  memcpy(&half, from, 2);
  return f16_to_f32(half);
}

void TeacherFile::compress(const Tensor& logits, char* steps) const {
  const int64_t n = logits.dim(0), pair = id_bytes_ + 2;
  std::vector<float> named(static_cast<size_t>(n * K_));
  std::vector<int32_t> all(static_cast<size_t>(O_));
  std::iota(all.begin(), all.end(), 0);
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> ids(static_cast<size_t>(K_));
    for (int64_t i = begin; i < end; i++) {
      float* x = logits.data<float>() + i * O_;
      std::partial_sort_copy(all.begin(), all.end(), ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
        return x[a] > x[b] || (x[a] == x[b] && a < b);
      });
      for (int64_t k = 0; k < K_; k++) {
        memcpy(steps + i * step_bytes_ + 2 + k * pair, &ids[k], static_cast<size_t>(id_bytes_));
        named[i * K_ + k] = x[ids[k]];
        x[ids[k]] = -INFINITY;
      }
    }
  });
  const Tensor others = log_sum_exp(logits);
  for (int64_t i = 0; i < n; i++) {
    const float* x = named.data() + i * K_;
    const double rest = K_ < O_ ? others.data<double>()[i] - x[0] : -INFINITY;
    double sum = std::exp(rest);
    for (int64_t k = 0; k < K_; k++) sum += std::exp(static_cast<double>(x[k]) - x[0]);
    char* step = steps + i * step_bytes_;
    put_half(step, rest - std::log(sum));
    for (int64_t k = 0; k < K_; k++) put_half(step + 2 + k * pair + id_bytes_, x[k] - x[0] - std::log(sum));
  }
}

void TeacherFile::expand(const char* steps, const Tensor& student, const Tensor& logits) const {
  logits.copy_from(student);
  const int64_t n = logits.dim(0), pair = id_bytes_ + 2;
  const auto each_row = [&](auto f) {
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) f(i, logits.data<float>() + i * O_, steps + i * step_bytes_);
    });
  };
  const auto each_named = [&](const char* step, auto f) {
    for (const char* at = step + 2; at < step + step_bytes_; at += pair) {
      uint32_t id = 0;
      memcpy(&id, at, static_cast<size_t>(id_bytes_));
      CHECK(id < O_, "%s: contains token %u, the vocabulary has %ld (the file is damaged: remove it)", path_.c_str(), id, static_cast<long>(O_));
      f(id, at + id_bytes_);
    }
  };
  each_row([&](int64_t, float* x, const char* step) {
    each_named(step, [&](uint32_t id, const char*) { x[id] = -INFINITY; });
  });
  const Tensor others = log_sum_exp(logits);
  each_row([&](int64_t i, float* x, const char* step) {
    const float shift = half_at(step) - static_cast<float>(others.data<double>()[i]);
    for (int64_t o = 0; o < O_; o++) x[o] += shift;
    each_named(step, [&](uint32_t id, const char* log_p) { x[id] = half_at(log_p); });
  });
}

}  // namespace supra
