#include "layers/adaptive_output.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "ops/elementwise.h"
#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

size_t projected(const AdaptiveShape& s, size_t cluster) {
    return static_cast<size_t>(static_cast<double>(s.inputs) / std::pow(s.div_value, static_cast<double>(cluster + 1)));
}

}  // namespace

void check(const AdaptiveShape& s) {
    for (size_t i = 0; i < s.cutoffs.size(); ++i) {
        const size_t at = s.cutoffs[i], least = i ? s.cutoffs[i - 1] + 1 : 1;
        if (at < least || at >= s.vocabulary)
            refuse({"cutoffs: ", at, " is at position ", i, ", expected ascending ids from ", least, " to ",
                    s.vocabulary - 1});
        if (projected(s, i) == 0)
            refuse({"div_value: cluster ", i, " would read hidden_size / ", std::to_string(s.div_value), "^", i + 1,
                    " numbers, less than 1; give a smaller div_value or fewer cutoffs"});
    }
}

AdaptiveOutput::AdaptiveOutput(const Kernels& kernels, Weights weights, const AdaptiveShape& shape, Parameter* weight,
                               Parameter* bias, std::optional<uint64_t> seed, const std::string& prefix)
    : kernels_(&kernels), head_(kernels, weights, weight, bias), inputs_(shape.inputs), vocabulary_(shape.vocabulary) {
    for (size_t i = 0; i < shape.cutoffs.size(); ++i) {
        const size_t first = shape.cutoffs[i], last = i + 1 < shape.cutoffs.size() ? shape.cutoffs[i + 1] : vocabulary_;
        const size_t width = projected(shape, i);
        const std::string name = prefix + "tail." + std::to_string(i);
        auto cluster = std::make_unique<Cluster>();
        Cluster& c = *cluster;
        c.first = first;
        c.size = last - first;
        c.projection = make_parameter(name + ".0.weight", {width, inputs_}, seed.has_value());
        c.weight = make_parameter(name + ".1.weight", {c.size, width}, seed.has_value());
        uint64_t key = random_key(seed.value_or(0), i);
        for (Parameter* p : {&c.projection, &c.weight})  // PyTorch's initialization
            uniform_(*p, 1.0 / std::sqrt(static_cast<double>(p->shape[1])), key = random_key(key, 1));
        c.packed = Packed<PackedLinear>(
            [&kernels, weights, inputs = inputs_, width] { return PackedLinear(kernels, weights, inputs, width); });
        c.output = OutputLayer(kernels, weights, &c.weight, nullptr);
        clusters_.push_back(std::move(cluster));
    }
}

Parameters AdaptiveOutput::cluster_parameters() const {
    Parameters all;
    for (const auto& c : clusters_) all.insert(all.end(), {&c->projection, &c->weight});
    return all;
}

void AdaptiveOutput::weights_changed() {
    head_.weights_changed();
    for (const auto& c : clusters_) {
        c->packed.weights_changed();
        c->output.weights_changed();
    }
}

void AdaptiveOutput::pack(const FileValues& values) {
    head_.pack(values);
    for (const auto& c : clusters_) {
        Buffer buffer;
        const float* weight = values(c->projection, buffer);
        c->packed.get([&](PackedLinear& p) { p.pack(weight, nullptr); });
        c->output.pack(values);
    }
}

const PackedLinear& AdaptiveOutput::projection(const Cluster& c) const {
    return c.packed.get([&](PackedLinear& p) { p.pack(c.projection.value.data(), nullptr); });
}

AdaptiveOutput::Sizes AdaptiveOutput::one_row() const {
    Sizes sizes;
    sizes.left = head_.logits_scratch(1);
    for (const auto& c : clusters_) {
        sizes.left = std::max({sizes.left, projection(*c).scratch(1), c->output.logits_scratch(1)});
        sizes.numbers = std::max(sizes.numbers, c->projection.shape[0] + c->size);
    }
    if (clusters()) sizes.numbers += head_.vocabulary();
    return sizes;
}

namespace {

void log_softmax(const Kernels& kernels, size_t rows, size_t size, float* x, size_t most_threads) {
    RowSoftmax s;
    s.rows = rows;
    s.size = size;
    s.logarithm = true;
    s.x = s.y = x;
    row_softmax(kernels, s, most_threads);
}

}  // namespace

void AdaptiveOutput::logits(const float* z, size_t rows, float* logits, const Workspace& w, size_t most_threads) const {
    if (!clusters()) return head_.logits(z, rows, logits, w.left, most_threads);
    const size_t head = head_.vocabulary(), frequent = clusters_[0]->first;
    size_t numbers = 0;
    for (const auto& c : clusters_) numbers = std::max(numbers, c->projection.shape[0] + c->size);
    w.numbers.reserve(rows * (head + numbers));
    float* of_head = w.numbers.data();
    head_.logits(z, rows, of_head, w.left, most_threads);
    log_softmax(*kernels_, rows, head, of_head, most_threads);
    for (size_t r = 0; r < rows; ++r) std::copy_n(of_head + r * head, frequent, logits + r * vocabulary_);
    for (size_t i = 0; i < clusters(); ++i) cluster_logits(i, z, rows, logits, w, most_threads);
}

void AdaptiveOutput::cluster_logits(size_t cluster, const float* z, size_t rows, float* logits, const Workspace& w,
                                    size_t threads) const {
    const Cluster& c = *clusters_[cluster];
    const size_t head = head_.vocabulary(), width = c.projection.shape[0];
    float *own = w.numbers.data() + rows * head, *log_p = own + rows * width;
    projection(c).forward(z, inputs_, rows, own, w.left, threads);
    c.output.logits(own, rows, log_p, w.left, threads);
    log_softmax(*kernels_, rows, c.size, log_p, threads);
    for (size_t r = 0; r < rows; ++r) {
        const float of_cluster = w.numbers.data()[r * head + clusters_[0]->first + cluster];
        for (size_t j = 0; j < c.size; ++j) logits[r * vocabulary_ + c.first + j] = of_cluster + log_p[r * c.size + j];
    }
}

const int32_t* AdaptiveOutput::head_targets(const Rows& r, std::vector<int32_t>& targets) const {
    targets.assign(r.targets, r.targets + r.rows);
    for (int32_t& id : targets)
        for (size_t i = clusters(); i-- > 0;)
            if (id >= static_cast<int32_t>(clusters_[i]->first)) {
                id = static_cast<int32_t>(clusters_[0]->first + i);
                break;
            }
    return targets.data();
}

bool AdaptiveOutput::gather(const Cluster& c, const Rows& r, ClusterMemory& m) const {
    m.rows.clear();
    m.targets.clear();
    for (size_t row = 0; row < r.rows; ++row) {
        const auto id = static_cast<size_t>(r.targets[row]);  // a negative one is beyond every cluster
        if (id < c.first || id >= c.first + c.size) continue;
        m.rows.push_back(row);
        m.targets.push_back(static_cast<int32_t>(id - c.first));
    }
    const size_t count = m.rows.size(), width = c.projection.shape[0];
    if (count == 0) return false;
    m.z.reserve(count * inputs_);
    m.projected.reserve(count * width);
    m.nll.resize(count);
    for (size_t i = 0; i < count; ++i) std::copy_n(r.z + m.rows[i] * inputs_, inputs_, m.z.data() + i * inputs_);
    projection(c).forward(m.z.data(), inputs_, count, m.projected.data(), m.scratch);
    return true;
}

void AdaptiveOutput::loss(const float* z, size_t rows, const int32_t* targets, double* nll, float* dz,
                          LossMemory& m) const {
    if (!clusters()) return head_.loss(z, rows, targets, nll, dz, m.head);
    const Rows r{z, rows, targets, nll};
    m.head.weight = weight_in_mean(targets, rows);
    head_.loss(z, rows, head_targets(r, m.targets), nll, dz, m.head);
    m.clusters.resize(clusters());
    for (size_t i = 0; i < clusters(); ++i) {
        m.clusters[i].loss.weight = m.head.weight;
        cluster_loss(*clusters_[i], r, dz, m.clusters[i]);
    }
}

void AdaptiveOutput::cluster_loss(const Cluster& c, const Rows& r, float* dz, ClusterMemory& m) const {
    if (!gather(c, r, m)) return;
    const size_t count = m.rows.size(), width = c.projection.shape[0];
    if (dz) m.dprojected.reserve(count * width);
    c.output.loss(m.projected.data(), count, m.targets.data(), m.nll.data(), dz ? m.dprojected.data() : nullptr,
                  m.loss);
    for (size_t i = 0; i < count; ++i) r.nll[m.rows[i]] += m.nll[i];
    if (!dz) return;
    m.dz.reserve(count * inputs_);
    m.dweight.reserve(c.projection.size());
    std::fill_n(m.dweight.data(), c.projection.size(), 0.0f);
    LinearGradients g{};
    g.x = m.z.data();
    g.dy = m.dprojected.data();
    g.weight = c.projection.value.data();
    g.rows = count;
    g.inputs = inputs_;
    g.outputs = width;
    g.dx = m.dz.data();
    g.dweight = m.dweight.data();
    linear_backward(*kernels_, g);
    for (size_t i = 0; i < count; ++i) kernels_->add(inputs_, m.dz.data() + i * inputs_, dz + m.rows[i] * inputs_);
}

void AdaptiveOutput::add_gradients(const LossMemory& m) {
    head_.add_gradients(m.head);
    for (size_t i = 0; i < clusters(); ++i) {
        if (m.clusters[i].rows.empty()) continue;
        Cluster& c = *clusters_[i];
        kernels_->add(c.projection.size(), m.clusters[i].dweight.data(), c.projection.grad.data());
        c.output.add_gradients(m.clusters[i].loss);
    }
}

void AdaptiveOutput::nll(const float* z, size_t rows, const int32_t* targets, double* nll, LossMemory& m) const {
    const Rows r{z, rows, targets, nll};
    head_.nll(z, rows, clusters() ? head_targets(r, m.targets) : targets, nll, m.head);
    m.clusters.resize(clusters());
    for (size_t i = 0; i < clusters(); ++i) {
        ClusterMemory& own = m.clusters[i];
        if (!gather(*clusters_[i], r, own)) continue;
        clusters_[i]->output.nll(own.projected.data(), own.rows.size(), own.targets.data(), own.nll.data(), own.loss);
        for (size_t j = 0; j < own.rows.size(); ++j) nll[own.rows[j]] += own.nll[j];
    }
}

}  // namespace rnnfast::core
