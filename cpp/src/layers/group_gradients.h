// Gradients of parameters over groups of rows, for layers that know of no groups: each is computed alone.
#pragma once

#include <optional>
#include <utility>

#include "layers/parameter.h"
#include "ops/group_tree.h"
#include "ops/packed_linear.h"
#include "ops/steps.h"

namespace rnnfast::core {

// Throws std::invalid_argument unless gradients that are to be kept apart have memory for all groups.
void check_memory_of_groups(const Parameters& parameters, const RowGroups& groups);

struct GroupGradientsMemory {
    std::vector<Buffer> leaves;
    Buffer sums, x, dy;
};

// Calls body(g) for each group, which adds its gradients to those of the `parameters`; then these have the sums of all
// groups in addition to what they had.
template <class Body>
void sum_groups(const Kernels& kernels, const Parameters& parameters, const RowGroups& groups, GroupGradientsMemory& m,
                Body body) {
    if (!groups) return body(size_t{0});
    const bool apart = groups.sums.apart;
    m.leaves.resize(parameters.size());
    std::vector<Range> places;
    size_t size = 0;
    for (size_t i = 0; i < parameters.size(); ++i) {
        const Parameter& p = *parameters[i];
        const size_t own = p.grad.size() / (apart ? groups.count() : 1);
        if (m.leaves[i].size() != own) m.leaves[i] = Buffer(own, Buffer::Uninitialised{});
        places.push_back({size, size + own});
        size += round_up(own, unit_block);
    }
    const auto swap = [&] {
        for (size_t i = 0; i < parameters.size(); ++i) std::swap(parameters[i]->grad, m.leaves[i]);
    };
    std::optional<GroupTree> tree;
    if (!apart) tree.emplace(m.sums, groups.count(), size, groups.sums);
    for (size_t g = 0; g < groups.count(); ++g) {
        for (Buffer& leaf : m.leaves) leaf.zero();
        swap();
        try {
            body(g);
        } catch (...) {
            swap();
            throw;
        }
        swap();
        for (size_t i = 0; i < parameters.size(); ++i) {
            const size_t own = places[i].size();
            std::copy_n(m.leaves[i].data(), own,
                        apart ? parameters[i]->grad.data() + g * own : tree->leaf(g) + places[i].begin);
        }
        if (tree)
            parallel(threads_for(static_cast<double>(size)),
                     [&](const Team& team) { tree->add(kernels, g, split(size, team.size, team.index, unit_block)); });
    }
    for (size_t i = 0; tree && i < parameters.size(); ++i)
        kernels.add(places[i].size(), tree->total() + places[i].begin, parameters[i]->grad.data());
}

// linear_backward with the gradients of these parameters. rows: of the groups, without which it is the whole.
void linear_backward(const Kernels& kernels, LinearGradients g, Parameter& weight, Parameter* bias,
                     const RowGroups& groups, const std::vector<GroupRows>& rows, GroupGradientsMemory& m);

}  // namespace rnnfast::core
