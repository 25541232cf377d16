// Wrong ids and lengths from outside are refused, each with one message.
#include "runtime/check.h"

#include <stdexcept>
#include <vector>

#include "helpers.h"

using namespace rnnfast;
using namespace rnnfast::tests;

TEST_CASE("an id outside its range is refused with its place and the range") {
    const std::vector<int32_t> ids = {0, 4, 5, -1};
    check_ids(ids.data(), 2, {5});
    CHECK_THROWS_WITH_AS(check_ids(ids.data(), 3, {5}), "token id 5 at position 2: expected 0 to 4 (the vocabulary)",
                         std::out_of_range);
    CHECK_THROWS_WITH_AS(check_id(-1, {5, "previous token id", of_the_model}),
                         "previous token id -1: expected 0 to 4 (the model's vocabulary; was the text encoded with "
                         "another one?)",
                         std::out_of_range);
    CHECK_THROWS_AS(check_ids(ids.data(), 4, {6}), std::out_of_range);
    check_targets(ids.data(), 4, {6});  // a negative target does not count
    CHECK_THROWS_AS(check_targets(ids.data(), 4, {5}), std::out_of_range);
}

TEST_CASE("a length outside its range is refused with its row and the range") {
    const std::vector<int64_t> lengths = {7, 0, -1};
    check_lengths(lengths.data(), 2, {0, 7});
    CHECK_THROWS_WITH_AS(check_lengths(lengths.data(), 3, {0, 7}),
                         "lengths[2] is -1: expected 0 to 7 (the input's steps)", std::invalid_argument);
    CHECK_THROWS_WITH_AS(check_lengths(lengths.data(), 2, {1, 7, "source_lengths", "the source's steps"}),
                         "source_lengths[1] is 0: expected 1 to 7 (the source's steps)", std::invalid_argument);
}
