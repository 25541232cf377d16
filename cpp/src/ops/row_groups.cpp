#include "ops/row_groups.h"

#include <stdexcept>
#include <string>

#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

RowGroups RowGroups::of_part(uint64_t part) const {
    RowGroups own = *this;
    own.key = random_key(key, part);
    for (uint64_t& each : own.keys) each = random_key(each, part);
    return own;
}

void check_groups(const RowGroups& groups, size_t rows) {
    const size_t count = groups.count();
    const bool divides = count && rows % count == 0;
    if (!divides || (!groups.sums.apart && count & (count - 1)))
        refuse({count, " groups of ", rows, " rows: expected a power of two that divides the rows"});
    if (const size_t weights = groups.sums.weights.size(); weights && weights != count)
        refuse({weights, " weights of ", count, " groups: expected as many"});
}

}  // namespace rnnfast::core
