// The output layer of a language model: a softmax over its vocabulary, or an adaptive one, whose rare tokens are in
// clusters (Grave et al., arXiv:1609.04309; torch.nn.AdaptiveLogSoftmaxWithLoss):
//
//     log P(w) = log P_head(w)                             for w below the first cutoff
//     log P(w) = log P_head(cluster) + log P_cluster(w)    for the others; the cluster reads z projected to fewer
//     numbers
//
// The ids are those of a vocabulary sorted by frequency, so most targets need the head alone.
#pragma once

#include <memory>

#include "layers/softmax_output.h"

namespace rnnfast::core {

struct AdaptiveShape {
    size_t inputs = 0, vocabulary = 0;
    std::vector<size_t> cutoffs;  // where each cluster begins, ascending; none: one softmax over the whole vocabulary
    double div_value = 4;         // cluster i reads inputs / div_value^(i + 1) numbers

    size_t head() const { return cutoffs.empty() ? vocabulary : cutoffs[0] + cutoffs.size(); }
};
// Throws std::invalid_argument for cutoffs that the vocabulary does not have, and for a cluster that would read
// nothing.
void check(const AdaptiveShape& shape);

class AdaptiveOutput {
public:
    AdaptiveOutput() = default;
    // weight, bias: of the head, [head, Z] and [head]. seed: of the clusters' parameters, which have the prefix.
    AdaptiveOutput(const Kernels& kernels, Weights weights, const AdaptiveShape& shape, Parameter* weight,
                   Parameter* bias, std::optional<uint64_t> seed, const std::string& prefix);

    size_t clusters() const { return clusters_.size(); }
    Parameters cluster_parameters() const;
    void weights_changed();
    void pack(const FileValues& values);  // for running only

    // Where logits() works; of one row, the sizes after which it allocates nothing.
    struct Workspace {
        Buffer &left, &numbers;
    };
    struct Sizes {
        size_t left = 0, numbers = 0;
    };
    Sizes one_row() const;
    // logits: [rows, V]; of clusters, log P, which is a logit too. Several threads may call this together.
    void logits(const float* z, size_t rows, float* logits, const Workspace& workspace, size_t most_threads) const;

    // As OutputLayer::largest_logits; with clusters all of them.
    void largest_logits(const float* z, size_t count, float* logits, const Workspace& workspace, LargestMemory& memory,
                        size_t most_threads) const {
        if (clusters()) return this->logits(z, 1, logits, workspace, most_threads);
        head_.largest_logits(z, count, logits, memory, most_threads);
    }

    struct ClusterMemory {
        std::vector<size_t> rows;  // whose targets are in the cluster
        std::vector<int32_t> targets;
        std::vector<double> nll;
        Buffer z, projected, dprojected, dz, scratch, dweight;
        OutputLayer::LossMemory loss;
    };
    struct LossMemory {
        OutputLayer::LossMemory head;
        std::vector<int32_t> targets;
        std::vector<ClusterMemory> clusters;
    };
    // As OutputLayer::loss; the mean is over the targets of head and clusters.
    void loss(const float* z, size_t rows, const int32_t* targets, double* nll, float* dz, LossMemory& memory) const;
    // Of groups of rows, as OutputLayer has it; not with clusters.
    void loss(const OutputLayer::LossOfGroups& given, double* nll, float* dz, LossMemory& memory) const {
        head_.loss(given, nll, dz, memory.head);
    }
    void add_gradients(const LossMemory& memory);
    // nll as loss computes it, from packed weights, which a model that only runs has.
    void nll(const float* z, size_t rows, const int32_t* targets, double* nll, LossMemory& memory) const;

private:
    struct Cluster {
        size_t first, size;
        Parameter projection, weight;  // [P, Z], [size, P]
        Packed<PackedLinear> packed;   // the projection
        OutputLayer output;
    };
    const PackedLinear& projection(const Cluster& cluster) const;
    struct Rows {
        const float* z;
        size_t rows;
        const int32_t* targets;
        double* nll;
    };
    const int32_t* head_targets(const Rows& r, std::vector<int32_t>& targets) const;
    // Gathers the rows whose targets are in the cluster and projects them; false if there are none.
    bool gather(const Cluster& cluster, const Rows& r, ClusterMemory& m) const;
    void cluster_loss(const Cluster& cluster, const Rows& r, float* dz, ClusterMemory& m) const;
    void cluster_logits(size_t cluster, const float* z, size_t rows, float* logits, const Workspace& w,
                        size_t threads) const;

    const Kernels* kernels_ = nullptr;
    OutputLayer head_;
    size_t inputs_ = 0, vocabulary_ = 0;
    std::vector<std::unique_ptr<Cluster>> clusters_;
};

}  // namespace rnnfast::core
