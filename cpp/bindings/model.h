// What Python's compiled models have in common.
#pragma once

#include <variant>

#include "bindings/arrays.h"
#include "files/options.h"
#include "ops/row_groups.h"
#include "runtime/dispatch.h"

namespace rnnfast::bindings {

// A model of a configuration as JSON.
template <class Model, class Options>
std::unique_ptr<Model> made_of(const std::string& config) {
    const py::gil_scoped_release release;
    const auto options = read_options<Options>(parse_json(config));
    return std::make_unique<Model>(options, options.seed, active());
}

// One dropout key for all rows; or one for each group of them, the weights of the groups in the tree that adds their
// gradients (none: 1 each), and whether they are kept apart instead.
using Keys = std::variant<uint64_t, std::tuple<std::vector<uint64_t>, std::vector<float>, bool>>;
inline RowGroups row_groups_of(const Keys& given) {
    if (const uint64_t* key = std::get_if<uint64_t>(&given)) return *key;
    const auto& [keys, weights, apart] = std::get<1>(given);
    if (keys.empty()) throw std::invalid_argument("dropout_keys is empty, expected one key or one a group");
    RowGroups groups(keys[0]);
    if (keys.size() > 1) groups.keys = keys;
    if (keys.size() > 1) groups.sums.weights = weights;
    groups.sums.apart = apart;
    return groups;
}

}  // namespace rnnfast::bindings
