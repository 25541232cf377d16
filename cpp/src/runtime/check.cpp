#include "runtime/check.h"
#include "runtime/sentence.h"

#include <stdexcept>
#include <string>

namespace rnnfast::core {

void check_id(int32_t id, const IdRange& range, size_t position) {
    if (id >= 0 && static_cast<size_t>(id) < range.size) return;
    const std::string place = position == no_position ? "" : " at position " + std::to_string(position);
    refuse_index({range.what, " ", id, place, ": expected 0 to ", range.size - 1, " (", range.whose, ")"});
}

void check_ids(const int32_t* ids, size_t count, const IdRange& range) {
    for (size_t i = 0; i < count; ++i) check_id(ids[i], range, i);
}

void check_targets(const int32_t* ids, size_t count, const IdRange& range) {
    for (size_t i = 0; i < count; ++i)
        if (ids[i] >= 0) check_id(ids[i], range, i);
}

void check_lengths(const int64_t* lengths, size_t rows, const LengthRange& range) {
    for (size_t n = 0; n < rows; ++n)
        if (lengths[n] < 0 || static_cast<uint64_t>(lengths[n]) < range.least ||
            static_cast<uint64_t>(lengths[n]) > range.most)
            refuse({range.what, "[", n, "] is ", lengths[n], ": expected ", range.least, " to ", range.most, " (",
                    range.whose, ")"});
}

}  // namespace rnnfast::core
