// The extension xtrace_sdk._core: convert, release the GIL, call, convert. The contract is _core.pyi.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "xvec/dispatch.h"
#include "xvec/hamming.h"
#include "xvec/multiset_hash.h"
#include "xvec/paillier.h"

namespace py = pybind11;

namespace {

using Bits = py::array_t<std::uint8_t, py::array::c_style>;
using Progress = std::optional<std::function<void(std::size_t, std::size_t)>>;

// --- Integers -----------------------------------------------------------------------------------------------------

xvec::Number to_number(const py::handle& value) {
  const auto integer = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!integer) throw py::error_already_set();
  if (integer < py::int_(0)) throw std::invalid_argument("numbers of a key are not negative");
  const auto bits = integer.attr("bit_length")().cast<std::size_t>();
  const py::bytes bytes = integer.attr("to_bytes")(std::max<std::size_t>(1, (bits + 7) / 8), "little");
  const std::string_view text = bytes;
  return {text.begin(), text.end()};
}

// A number that is wiped when it dies.
struct SecretNumber {
  explicit SecretNumber(xvec::Number number) : value(std::move(number)) {}
  explicit SecretNumber(const py::handle& integer) : value(to_number(integer)) {}
  SecretNumber(const SecretNumber&) = delete;
  SecretNumber& operator=(const SecretNumber&) = delete;
  ~SecretNumber() { xvec::wipe(value); }
  xvec::Number value;
};

py::object to_int(std::span<const std::uint8_t> number) {
  const py::bytes bytes(reinterpret_cast<const char*>(number.data()), number.size());
  return py::module_::import("builtins").attr("int").attr("from_bytes")(bytes, "little");
}

// --- Arrays -------------------------------------------------------------------------------------------------------

std::span<const std::uint8_t> view(const Bits& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

// A key, as bytes or as a buffer that its owner can wipe.
std::span<const std::uint8_t> view(const py::buffer_info& key) {
  if (key.itemsize != 1 || key.ndim != 1 || key.strides[0] != 1) throw std::invalid_argument("key: expected bytes");
  return {static_cast<const std::uint8_t*>(key.ptr), static_cast<std::size_t>(key.size)};
}

std::string shape_text(const std::vector<py::ssize_t>& shape) {
  std::string text;
  for (const py::ssize_t n : shape)
    text += (text.empty() ? "" : ", ") + (n < 0 ? std::string("N") : std::to_string(n));
  return "(" + text + ")";
}

// An argument that must be a C-contiguous uint8 array of the given shape, -1 standing for any length.
Bits array_argument(const py::object& object, const char* name, const std::vector<py::ssize_t>& shape) {
  const std::string wanted =
      std::string(name) + ": expected a C-contiguous uint8 array of shape " + shape_text(shape);
  if (!py::isinstance<Bits>(object)) {
    throw std::invalid_argument(
        wanted + ", got " + std::string(py::str(py::type::of(object).attr("__name__"))) +
        (py::hasattr(object, "dtype") ? " of " + std::string(py::str(object.attr("dtype"))) : ""));
  }
  Bits array = py::reinterpret_borrow<Bits>(object);
  std::vector<py::ssize_t> have(array.shape(), array.shape() + array.ndim());
  bool fits = have.size() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || shape[i] == have[i];
  if (!fits) throw std::invalid_argument(wanted + ", got " + shape_text(have));
  return array;
}

py::ssize_t size(std::size_t n) { return static_cast<py::ssize_t>(n); }

// Between slices: lets Ctrl-C through and reports progress. An exception from either travels back as it is.
xvec::Batch batch(int threads, const Progress& progress) {
  if (threads < 0) throw std::invalid_argument("threads: must be 0 (all) or more");
  return {threads, [&progress](std::size_t done, std::size_t total) {
            const py::gil_scoped_acquire gil;
            if (PyErr_CheckSignals() != 0) throw py::error_already_set();
            if (progress) (*progress)(done, total);
            return true;
          }};
}

// --- Classes ------------------------------------------------------------------------------------------------------

template <class T>
py::class_<T> secret_class(py::module_& m, const char* name, const char* doc) {
  py::class_<T> type(m, name, doc);
  const std::string refusal = std::string(name) + " cannot be pickled or copied";
  for (const char* method : {"__reduce_ex__", "__reduce__", "__copy__", "__deepcopy__"}) {
    type.def(method, [refusal](const py::object&, const py::args&) -> py::object { throw py::type_error(refusal); });
  }
  return type;
}

xvec::Floors floors(bool allow_insecure) { return allow_insecure ? xvec::Floors::waived : xvec::Floors::enforced; }

void register_keys(py::module_& m) {
  py::class_<xvec::PublicKey>(m, "PublicKey", "Public values of a Paillier key.")
      .def(py::init([](const py::object& n, const py::object& g, const py::object& g_n) {
             return xvec::PublicKey(to_number(n), to_number(g), g_n.is_none() ? xvec::Number{} : to_number(g_n));
           }),
           py::arg("n"), py::arg("g"), py::arg("g_n") = py::none())
      .def_property_readonly("n", [](const xvec::PublicKey& k) { return to_int(k.n()); })
      .def_property_readonly("g", [](const xvec::PublicKey& k) { return to_int(k.g()); })
      .def_property_readonly(
          "g_n",
          [](const xvec::PublicKey& k) -> py::object { return k.has_subgroup() ? to_int(k.g_n()) : py::none(); })
      .def_property_readonly("n_squared", [](const xvec::PublicKey& k) { return to_int(k.n_squared()); })
      .def_property_readonly("width", &xvec::PublicKey::width);

  secret_class<xvec::SecretKey>(m, "SecretKey", "A key pair in locked memory.")
      .def_static(
          "generate",
          [](std::size_t key_len, std::optional<std::size_t> alpha_len, bool allow_insecure) {
            const py::gil_scoped_release released;
            return xvec::SecretKey::generate(key_len, alpha_len.value_or(0), floors(allow_insecure));
          },
          py::arg("key_len"), py::arg("alpha_len") = py::none(), py::kw_only(), py::arg("allow_insecure") = false)
      .def_static(
          "generate_plain",
          [](std::size_t key_len, bool allow_insecure) {
            const py::gil_scoped_release released;
            return xvec::SecretKey::generate_plain(key_len, floors(allow_insecure));
          },
          py::arg("key_len"), py::kw_only(), py::arg("allow_insecure") = false)
      .def_static(
          "load",
          [](const xvec::PublicKey& key, const py::object& phi, const py::object& inverse, const py::object& a,
             bool allow_insecure) {
            const SecretNumber p(phi), i(inverse), order(a.is_none() ? xvec::Number{} : to_number(a));
            const py::gil_scoped_release released;
            return xvec::SecretKey::load(key, p.value, i.value, order.value, floors(allow_insecure));
          },
          py::arg("public"), py::arg("phi"), py::arg("inverse"), py::arg("a") = py::none(), py::kw_only(),
          py::arg("allow_insecure") = false)
      .def_property_readonly("public", [](const xvec::SecretKey& k) { return k.public_key(); })
      .def_property_readonly("key_len", &xvec::SecretKey::key_len)
      .def_property_readonly("alpha_len",
                             [](const xvec::SecretKey& k) -> std::optional<std::size_t> {
                               if (k.alpha_len() == 0) return std::nullopt;
                               return k.alpha_len();
                             })
      .def_property_readonly("phi", [](const xvec::SecretKey& k) { return to_int(SecretNumber(k.phi()).value); })
      .def_property_readonly("a",
                             [](const xvec::SecretKey& k) -> py::object {
                               return k.alpha_len() == 0 ? py::none() : to_int(SecretNumber(k.a()).value);
                             })
      .def_property_readonly("inverse",
                             [](const xvec::SecretKey& k) { return to_int(SecretNumber(k.inverse()).value); })
      .def("close", &xvec::SecretKey::close);
}

template <class Class>
void def_layout(Class& type) {
  using T = typename Class::type;
  type.def_property_readonly("dimensions", &T::dimensions)
      .def_property_readonly("chunks", &T::chunks)
      .def_property_readonly("width", &T::width);
}

// Without the GIL another thread may close the key: a share of it, taken before, stays.
xvec::HammingEncryptor owner_encryptor(const xvec::SecretKey& key, std::size_t dimensions) {
  const xvec::SecretKey share = key.share();
  const py::gil_scoped_release released;
  return {share, dimensions};
}

xvec::HammingEncryptor public_encryptor(const xvec::PublicKey& key, std::size_t dimensions,
                                        std::optional<std::size_t> alpha_len) {
  const py::gil_scoped_release released;
  return {key, dimensions, alpha_len.value_or(0)};
}

void register_vectors(py::module_& m) {
  secret_class<xvec::RecordKey>(m, "RecordKey",
                                "One writer's secret of the authenticated encoding, in one key epoch.")
      .def(py::init([](const py::buffer& secret, std::uint32_t epoch, const py::bytes& writer) {
             return xvec::RecordKey(view(secret.request()), epoch, std::string_view(writer));
           }),
           py::arg("secret"), py::arg("epoch"), py::arg("writer"));

  secret_class<xvec::MultisetHash>(m, "MultisetHash", "Adds up a secret pseudorandom function of records.")
      .def(py::init([](const py::buffer& key) { return xvec::MultisetHash(view(key.request())); }), py::arg("key"))
      .def(
          "sum",
          [](const xvec::MultisetHash& hash, const py::object& table_argument, int threads) {
            const Bits table = array_argument(table_argument, "table", {-1, -1});
            std::uint8_t sum[xvec::kMultisetHashSize];
            const std::span<const std::uint8_t> from = view(table);
            const auto rows = static_cast<std::size_t>(table.shape(0));
            const Progress no_progress;
            const xvec::Batch options = batch(threads, no_progress);
            {
              const py::gil_scoped_release released;
              hash.sum(from, rows, sum, options);
            }
            return py::bytes(reinterpret_cast<const char*>(sum), sizeof sum);
          },
          py::arg("table"), py::kw_only(), py::arg("threads") = 0);

  auto encryptor =
      secret_class<xvec::HammingEncryptor>(m, "HammingEncryptor", "Encrypts binary vectors of a fixed dimension.");
  encryptor.def(py::init(&owner_encryptor), py::arg("key"), py::arg("dimensions"))
      .def(py::init(&public_encryptor), py::arg("key"), py::arg("dimensions"), py::arg("alpha_len") = py::none())
      .def(
          "encrypt",
          [](const xvec::HammingEncryptor& e, const py::object& bits_argument, int threads,
             const Progress& progress) {
            const Bits bits = array_argument(bits_argument, "bits", {-1, size(e.dimensions())});
            Bits out({bits.shape(0), size(e.chunks()), size(e.width())});
            const std::span<std::uint8_t> to{out.mutable_data(), static_cast<std::size_t>(out.size())};
            const std::span<const std::uint8_t> from = view(bits);
            const xvec::Batch options = batch(threads, progress);
            {
              const py::gil_scoped_release released;
              e.encrypt(from, to, options);
            }
            return out;
          },
          py::arg("bits"), py::kw_only(), py::arg("threads") = 0, py::arg("progress") = py::none())
      .def(
          "encrypt_records",
          [](const xvec::HammingEncryptor& e, const py::object& bits_argument, const py::object& nonces_argument,
             const xvec::RecordKey& key, int threads, const Progress& progress) {
            const Bits bits = array_argument(bits_argument, "bits", {-1, size(e.dimensions())});
            const Bits nonces = array_argument(nonces_argument, "nonces", {bits.shape(0), size(xvec::kNonceSize)});
            Bits out({bits.shape(0), size(e.chunks()), size(e.width())});
            const std::span<std::uint8_t> to{out.mutable_data(), static_cast<std::size_t>(out.size())};
            const std::span<const std::uint8_t> from = view(bits), fresh = view(nonces);
            const xvec::Batch options = batch(threads, progress);
            {
              const py::gil_scoped_release released;
              e.encrypt_records(from, fresh, key, to, options);
            }
            return out;
          },
          py::arg("bits"), py::arg("nonces"), py::arg("key"), py::kw_only(), py::arg("threads") = 0,
          py::arg("progress") = py::none())
      .def(
          "encrypt_query",
          [](const xvec::HammingEncryptor& e, const py::object& bits_argument, const py::object& nonce_argument,
             const xvec::RecordKey& key) {
            const Bits bits = array_argument(bits_argument, "bits", {size(e.dimensions())});
            const Bits nonce = array_argument(nonce_argument, "nonce", {size(xvec::kNonceSize)});
            Bits out({size(e.chunks()), size(e.width())});
            const std::span<std::uint8_t> to{out.mutable_data(), static_cast<std::size_t>(out.size())};
            const std::span<const std::uint8_t> from = view(bits), fresh = view(nonce);
            {
              const py::gil_scoped_release released;
              e.encrypt_query(from, fresh, key, to);
            }
            return out;
          },
          py::arg("bits"), py::arg("nonce"), py::arg("key"));
  def_layout(encryptor);

  auto decoder = secret_class<xvec::HammingDecoder>(
      m, "HammingDecoder", "Decodes products of encrypted vectors and queries to distances.");
  decoder
      .def(py::init([](const xvec::SecretKey& key, std::size_t dimensions, bool vartime) {
             const xvec::SecretKey share = key.share();
             const py::gil_scoped_release released;
             return xvec::HammingDecoder(share, dimensions,
                                         vartime ? xvec::Schedule::vartime : xvec::Schedule::constant);
           }),
           py::arg("key"), py::arg("dimensions"), py::kw_only(), py::arg("vartime") = false)
      .def_property_readonly("sides", &xvec::HammingDecoder::sides)
      .def(
          "decode",
          [](const xvec::HammingDecoder& d, const py::object& rows_argument, int threads, const Progress& progress) {
            const Bits rows = array_argument(rows_argument, "rows", {-1, size(d.chunks()), size(d.width())});
            py::array_t<std::int32_t> out(rows.shape(0));
            const std::span<std::int32_t> to{out.mutable_data(), static_cast<std::size_t>(out.size())};
            const std::span<const std::uint8_t> from = view(rows);
            const xvec::Batch options = batch(threads, progress);
            {
              const py::gil_scoped_release released;
              d.decode(from, to, options);
            }
            return out;
          },
          py::arg("rows"), py::kw_only(), py::arg("threads") = 0, py::arg("progress") = py::none())
      .def(
          "decode_records",
          [](const xvec::HammingDecoder& d, const py::object& rows_argument, const py::object& nonces_argument,
             const xvec::RecordKey& key, const py::object& query_argument, const py::object& query_nonce_argument,
             const xvec::RecordKey& query_key, int threads, const Progress& progress) {
            const Bits rows = array_argument(rows_argument, "rows", {-1, size(d.chunks()), size(d.width())});
            const Bits nonces = array_argument(nonces_argument, "nonces", {rows.shape(0), size(xvec::kNonceSize)});
            const Bits query = array_argument(query_argument, "query", {size(d.dimensions())});
            const Bits query_nonce = array_argument(query_nonce_argument, "query_nonce", {size(xvec::kNonceSize)});
            py::array_t<std::int32_t> out(rows.shape(0));
            const std::span<std::int32_t> to{out.mutable_data(), static_cast<std::size_t>(out.size())};
            const std::span<const std::uint8_t> from = view(rows), beside = view(nonces);
            const xvec::HammingDecoder::Query known{view(query), view(query_nonce), query_key};
            const xvec::Batch options = batch(threads, progress);
            {
              const py::gil_scoped_release released;
              d.decode_records(from, beside, key, known, to, options);
            }
            return out;
          },
          py::arg("rows"), py::arg("nonces"), py::arg("key"), py::arg("query"), py::arg("query_nonce"),
          py::arg("query_key"), py::kw_only(), py::arg("threads") = 0, py::arg("progress") = py::none())
      .def(
          "open_records",
          [](const xvec::HammingDecoder& d, const py::object& rows_argument, const py::object& nonces_argument,
             const xvec::RecordKey& key, int threads, const Progress& progress) {
            const Bits rows = array_argument(rows_argument, "rows", {-1, size(d.chunks()), size(d.width())});
            const Bits nonces = array_argument(nonces_argument, "nonces", {rows.shape(0), size(xvec::kNonceSize)});
            py::array_t<std::uint8_t> out({rows.shape(0), size(d.dimensions())});
            const std::span<std::uint8_t> to{out.mutable_data(), static_cast<std::size_t>(out.size())};
            const std::span<const std::uint8_t> from = view(rows), beside = view(nonces);
            const xvec::Batch options = batch(threads, progress);
            {
              const py::gil_scoped_release released;
              d.open_records(from, beside, key, to, options);
            }
            return out;
          },
          py::arg("rows"), py::arg("nonces"), py::arg("key"), py::kw_only(), py::arg("threads") = 0,
          py::arg("progress") = py::none())
      .def(
          "decrypt",
          [](const xvec::HammingDecoder& d, const py::object& rows_argument, int threads) {
            const Bits rows = array_argument(rows_argument, "rows", {-1, size(d.width())});
            const std::size_t width = d.plaintext_width();
            std::vector<std::uint8_t> plain(static_cast<std::size_t>(rows.shape(0)) * width);
            const std::span<const std::uint8_t> from = view(rows);
            const Progress no_progress;
            const xvec::Batch options = batch(threads, no_progress);
            {
              const py::gil_scoped_release released;
              d.decrypt(from, plain, options);
            }
            py::list out;
            for (std::size_t i = 0; i * width < plain.size(); ++i) {
              out.append(to_int(std::span(plain).subspan(i * width, width)));
            }
            return out;
          },
          py::arg("rows"), py::kw_only(), py::arg("threads") = 0);
  def_layout(decoder);

  py::class_<xvec::Multiplier>(m, "Multiplier", "The server's only operation: products modulo n**2.")
      .def(py::init([](const py::object& n_squared) { return xvec::Multiplier(to_number(n_squared)); }),
           py::arg("n_squared"))
      .def_property_readonly("width", &xvec::Multiplier::width)
      .def(
          "products",
          [](const xvec::Multiplier& x, const py::object& query_argument, const py::object& rows_argument,
             const py::object& out_argument, int threads, const Progress& progress) {
            const Bits query = array_argument(query_argument, "query", {-1, size(x.width())});
            const std::vector<py::ssize_t> shape{-1, query.shape(0), size(x.width())};
            const Bits rows = array_argument(rows_argument, "rows", shape);
            Bits out = out_argument.is_none()
                           ? Bits({rows.shape(0), query.shape(0), size(x.width())})
                           : array_argument(out_argument, "out", {rows.shape(0), query.shape(0), size(x.width())});
            if (!out.writeable()) throw std::invalid_argument("out: the array is read-only");
            const std::span<std::uint8_t> to{out.mutable_data(), static_cast<std::size_t>(out.size())};
            const std::span<const std::uint8_t> from = view(rows), fixed = view(query);
            const xvec::Batch options = batch(threads, progress);
            {
              const py::gil_scoped_release released;
              x.products(fixed, from, to, options);
            }
            return out;
          },
          py::arg("query"), py::arg("rows"), py::kw_only(), py::arg("out") = py::none(), py::arg("threads") = 0,
          py::arg("progress") = py::none())
      .def(
          "out_of_range",
          [](const xvec::Multiplier& x, const py::object& rows_argument) {
            const bool by_chunk = py::isinstance<Bits>(rows_argument) && py::cast<Bits>(rows_argument).ndim() == 3;
            std::vector<py::ssize_t> shape(by_chunk ? 2 : 1, -1);
            shape.push_back(size(x.width()));
            const Bits rows = array_argument(rows_argument, "rows", shape);
            std::ptrdiff_t at = 0;
            {
              const std::span<const std::uint8_t> from = view(rows);
              const py::gil_scoped_release released;
              at = x.out_of_range(from);
            }
            const py::ssize_t per_row = rows.ndim() == 2 ? 1 : rows.shape(1);
            return at < 0 ? at : at / per_row;
          },
          py::arg("rows"));
}

// Exceptions of the library become those of xtrace_sdk.errors.
void register_errors() {
  py::register_exception_translator([](std::exception_ptr thrown) {
    const auto raise = [](const char* name, const char* what) {
      py::set_error(py::module_::import("xtrace_sdk.errors").attr(name), what);
    };
    try {
      std::rethrow_exception(std::move(thrown));
    } catch (const xvec::WeakKey& e) {
      raise("WeakKeyError", e.what());
    } catch (const xvec::KeyMismatch& e) {
      raise("KeyMismatchError", e.what());
    } catch (const xvec::InvalidCiphertext& e) {
      raise("CiphertextError", e.what());
    } catch (const xvec::NotAuthentic& e) {
      raise("IntegrityError", e.what());
    } catch (const xvec::KeyClosed& e) {
      raise("NotLoadedError", e.what());
    } catch (const xvec::KernelUnavailable& e) {
      raise("KernelError", e.what());
    } catch (const std::invalid_argument& e) {
      raise("InputError", e.what());
    }
  });
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of xtrace_sdk.";
  m.def("kernels", &xvec::kernels);
  m.def("kernel", &xvec::kernel);
  m.def("max_threads", &xvec::max_threads);
  register_errors();
  register_keys(m);
  register_vectors(m);
}
