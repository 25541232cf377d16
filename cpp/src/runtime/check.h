// Checks of ids and lengths from outside. Each kind of error has one message.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rnnfast::core {

// What an id stands for, as an error message names it.
struct IdRange {
    size_t size;
    const char* what = "token id";
    const char* whose = "the vocabulary";
};
// The same for an id that a model reads.
constexpr const char* of_the_model = "the model's vocabulary; was the text encoded with another one?";
constexpr size_t no_position = static_cast<size_t>(-1);
// Throws std::out_of_range unless 0 <= id < size: "token id 9 at position 2: expected 0 to 4 (the vocabulary)".
void check_id(int32_t id, const IdRange& range, size_t position = no_position);
void check_ids(const int32_t* ids, size_t count, const IdRange& range);
// The same, but negative ids are valid: they mark positions to ignore.
void check_targets(const int32_t* ids, size_t count, const IdRange& range);

// The limits of a row's length, as an error message names them.
struct LengthRange {
    size_t least, most;
    const char* what = "lengths";
    const char* whose = "the input's steps";
};
// Throws std::invalid_argument unless least <= length <= most: "lengths[2] is 9: expected 0 to 7 (the input's steps)".
void check_lengths(const int64_t* lengths, size_t rows, const LengthRange& range);

}  // namespace rnnfast::core
