// Views, and how the rows of a sequence lie.
#include "helpers.h"
#include "ops/steps.h"

using namespace rnnfast;
using namespace rnnfast::tests;

TEST_CASE("a part of a view points into it, and a part of nothing is nothing") {
    std::vector<float> x(6 * 4);
    const View view(x.data(), 6, 4);
    const View part = view.row_range({2, 5}).column_range({1, 3});
    CHECK(part.row(1) == x.data() + 3 * 4 + 1);
    CHECK(part.rows == 3);
    CHECK(part.columns == 2);
    CHECK(part.stride == 4);
    CHECK_FALSE(ConstView().row_range({2, 5}).column_range({1, 3}));
}

TEST_CASE("rows come back from the order of the steps with zeros beyond their length, and a flip is its own inverse") {
    constexpr size_t steps = 4, rows = 3, width = 2;
    const int64_t lengths[rows] = {2, 0, 3};
    RaggedRows ragged;
    ragged.set(lengths, steps, rows);
    const auto x = random_vector(steps * rows * width, 1);
    std::vector<float> sorted(ragged.steps.total() * width), flipped(sorted.size()), again(sorted.size());
    std::vector<float> back(x.size(), 9.0f);
    const Range all{0, ragged.steps.count()};
    const View packed(sorted.data(), ragged.steps.total(), width);
    sort_rows(ragged, all, {x.data(), steps * rows, width}, packed);
    unsort_rows(ragged, all, steps, packed, {back.data(), steps * rows, width});
    for (size_t t = 0; t < steps; ++t)
        for (size_t n = 0; n < rows; ++n)
            for (size_t j = 0; j < width; ++j) {
                const size_t at = (t * rows + n) * width + j;
                CHECK(back[at] == (static_cast<int64_t>(t) < lengths[n] ? x[at] : 0.0f));
            }
    flip(ragged, packed, {flipped.data(), packed.rows, width});
    CHECK(flipped[0] == x[(2 * rows + 2) * width]);  // the longest row's last step comes first
    flip(ragged, ConstView(flipped.data(), packed.rows, width), {again.data(), packed.rows, width});
    CHECK(again == sorted);
}
