#include "bindings/parameters.h"

#include <algorithm>

namespace rnnfast::bindings {

namespace {

// An object of a bound class.
struct Self {
    Self(const Parameterized& of, py::handle self) : of(of), object(of.object(self)) {}
    Parameters parameters() const { return of.parameters(object); }
    const Kernels& kernels() const { return of.kernels(object); }

    const Parameterized& of;
    void* object;
};

// bound.def(...) of a class whose type is not known here
template <class Function, class... Extra>
void define(py::object& bound, const char* name, const Function& function, const Extra&... extra) {
    py::detail::add_class_method(bound, name,
                                 py::cpp_function(function, py::name(name), py::is_method(bound), extra...));
}

void set_parameter(const Self& self, const std::string& name, const Array<float>& value) {
    for (Parameter* p : self.parameters()) {
        if (p->name != name) continue;
        check_shape(value, std::vector<py::ssize_t>(p->shape.begin(), p->shape.end()), "parameter " + name);
        const py::gil_scoped_release release;
        std::copy_n(value.data(), p->size(), p->value.data());
        self.of.weights_changed(self.object);
        return;
    }
    throw std::invalid_argument("no parameter " + name);
}

py::dict views(const Self& self, const py::object& owner, bool gradients) {
    py::dict all;
    for (const Parameter* p : self.parameters())
        all[py::str(p->name)] = view((gradients ? p->grad : p->value).data(), p->shape, owner, gradients);
    return all;
}

void add_values(py::object& bound, const Parameterized* of) {
    define(bound, "parameters", [of](const py::object& self) { return views({*of, self}, self, false); });
    define(
        bound, "set_parameter",
        [of](const py::object& self, const std::string& name, const Array<float>& value) {
            set_parameter({*of, self}, name, value);
        },
        py::arg("name"), py::arg("value"));
    define(bound, "weights_changed", [of](const py::object& self) {
        void* object = of->object(self);
        const py::gil_scoped_release release;
        of->weights_changed(object);
    });
    define(bound, "frozen", [of](const py::object& self) {
        std::vector<std::string> names;
        for (const Parameter* p : Self(*of, self).parameters())
            if (p->frozen && !p->statistic) names.push_back(p->name);
        return names;
    });
    define(
        bound, "set_frozen",
        [of](const py::object& self, const std::vector<std::string>& names) {
            for (Parameter* p : Self(*of, self).parameters())
                p->frozen = p->statistic || std::find(names.begin(), names.end(), p->name) != names.end();
        },
        py::arg("names"));
}

// What `backward` adds to gradients that have memory for so many groups: (groups, *shape) arrays by name.
py::dict gradients_apart(const Parameters& parameters, size_t groups, const py::function& backward) {
    std::vector<Buffer> own;
    for (const Parameter* p : parameters) own.emplace_back(groups * p->grad.size());
    const auto swap = [&] {
        for (size_t i = 0; i < own.size(); ++i) std::swap(own[i], parameters[i]->grad);
    };
    swap();
    try {
        backward();
    } catch (...) {
        swap();
        throw;
    }
    swap();
    py::dict all;
    for (size_t i = 0; i < own.size(); ++i) {
        const Parameter& p = *parameters[i];
        if (p.statistic) continue;
        std::vector<py::ssize_t> shape(p.shape.begin(), p.shape.end());
        shape.insert(shape.begin(), signed_size(groups));
        auto* kept = new Buffer(std::move(own[i]));
        const py::capsule owner(kept, [](void* buffer) { delete static_cast<Buffer*>(buffer); });
        all[py::str(p.name)] = py::array_t<float>(shape, kept->data(), owner);
    }
    return all;
}

void add_gradients(py::object& bound, const Parameterized* of) {
    define(bound, "gradients", [of](const py::object& self) { return views({*of, self}, self, true); });
    define(
        bound, "gradients_apart",
        [of](const py::object& self, size_t groups, const py::function& backward) {
            return gradients_apart(Self(*of, self).parameters(), groups, backward);
        },
        py::arg("groups"), py::arg("backward"));
    define(bound, "zero_grad", [of](const py::object& object) {
        const Self self(*of, object);
        const py::gil_scoped_release release;
        const ForkLock lock(of->gradients_mutex(self.object), [] {});  // zeros are whole, whatever was there
        zero_grad(self.parameters());
    });
    define(
        bound, "grad_squares",
        [of](const py::object& object, double start) {
            const Self self(*of, object);
            const py::gil_scoped_release release;
            return grad_squares(self.parameters(), start);
        },
        py::arg("start"));
    define(
        bound, "chunk_squares",
        [of](const py::object& object, size_t share, size_t shares) {
            const Self self(*of, object);
            std::vector<double> sums;
            {
                const py::gil_scoped_release release;
                sums = chunk_squares(self.parameters(), share, shares);
            }
            return Array<double>(signed_size(sums.size()), sums.data());
        },
        py::arg("share"), py::arg("shares"));
    define(
        bound, "scale_grads",
        [of](const py::object& object, double factor) {
            const Self self(*of, object);
            const py::gil_scoped_release release;
            scale_grads(self.kernels(), self.parameters(), factor);
        },
        py::arg("factor"));
    define(
        bound, "clip_grad_value",
        [of](const py::object& object, float limit) {
            const Self self(*of, object);
            const py::gil_scoped_release release;
            clip_grad_value(self.kernels(), self.parameters(), limit);
        },
        py::arg("limit"));
    define(
        bound, "make_optimizer",
        [of](const py::object& object, const OptimizerOptions& options) {
            const Self self(*of, object);
            const py::gil_scoped_release release;
            return std::make_unique<Optimizer>(self.kernels(), self.parameters(), options);
        },
        py::arg("options"), py::keep_alive<0, 1>());
}

}  // namespace

void add_parameters(py::object bound, const Parameterized& of) {
    add_values(bound, &of);
    add_gradients(bound, &of);
}

}  // namespace rnnfast::bindings
