//! Who needs a loss function? Real tables, one training loop, one word changed.
//!
//! A model ends in the natural parameter η of an exponential family. Backpropagation starts there, with the explicit upstream
//! `(mean − target)/n`; no loss is written down, and none is computed. The family is the word that changes, then the link.
//! `docs/who-needs-a-loss.md` tells the story.
//!
//! `cargo run --release --example who_needs_a_loss -- cpu` draws into target/examples-out; a second argument is another folder.

mod svg;

use std::path::{Path, PathBuf};

use cotangent::io::Table;
use cotangent::prelude::*;

use svg::Chart;

/// Steps of a whole run.
pub(crate) const STEPS: usize = 600;
/// Places where a trained model is drawn.
const PLACES: usize = 121;

/// A question about one column of a table.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    family: Family,
    /// File, explaining column, target.
    data: [&'static str; 3],
    /// The target is counted in this unit.
    unit: f64,
    hidden: &'static [usize],
}

/// What a story came to. Deviances are sums over the rows, in f64.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) name: &'static str,
    pub(crate) rows: usize,
    /// Of the mean of all targets, which knows nothing of the explaining column.
    pub(crate) null: f64,
    pub(crate) before: f64,
    pub(crate) after: f64,
    places: Vec<f64>,
    /// Predicted means there, one or one per class.
    means: Vec<f64>,
    x: Vec<f64>,
    y: Vec<f64>,
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let device = Device::parse(arguments.first().map_or("best", String::as_str))?;
    println!("device: {} ({})", device.name(), device.why());
    let mut told = Vec::new();
    for story in &stories()? {
        told.push(tell(&device, story, STEPS)?);
        println!("{}", told.last().map_or_else(String::new, line));
    }
    let folder = PathBuf::from(arguments.get(1).map_or("target/examples-out", String::as_str));
    for path in draw(&told, &folder)? {
        println!("drawn to {}", path.display());
    }
    Ok(())
}

/// Families, then links.
pub(crate) fn stories() -> Result<[Story; 6], Error> {
    let size = ["breast_cancer.csv", "mean_radius", "mean_area"];
    let benign = ["breast_cancer.csv", "mean_radius", "target"];
    let spread = ["breast_cancer.csv", "mean_radius", "area_error"];
    let story = |name, family, data| Story { name, family, data, unit: 1.0, hidden: &[8] };
    Ok([
        // One word: the family.
        Story { unit: 100.0, ..story("gaussian", Family::gaussian(), size) },
        story("poisson", Family::poisson(), ["randhie.csv", "disea", "mdvis"]),
        story("categorical", Family::categorical(), ["anes96.csv", "selfLR", "PID"]),
        // One word more: the link. Without hidden layers, because a network makes up for the other link.
        Story { hidden: &[], ..story("logit", Family::bernoulli(), benign) },
        Story { hidden: &[], ..story("cloglog", Family::bernoulli().with_link(Link::Cloglog)?, benign) },
        story("gamma_log", Family::gamma().with_link(Link::Log)?, spread),
    ])
}

/// The whole of training. Nothing here knows what the targets are, but for the family.
fn train(
    device: &Device,
    family: &Family,
    eta: &Tensor,
    target: &Tensor,
    parameters: &Variables,
) -> Result<Step, Error> {
    let rows = target.shape()[0] as f64;
    let upstream = family.residual(eta, target) / rows;
    let gradients = vjp(&[(eta, &upstream)], &parameters.views())?.or_error()?;
    let updates = Adam::new(2e-2).attach(device, parameters)?.updates(&gradients)?;
    Step::new(device, &[], &[], &updates.pairs())
}

/// Trains and measures.
pub(crate) fn tell(device: &Device, story: &Story, steps: usize) -> Result<Told, Error> {
    let Story { name, family, data: [file, x, y], unit, hidden } = story;
    let table = Table::read(format!("{}/examples/data/{file}", env!("CARGO_MANIFEST_DIR")))?;
    let x = table.column(x)?;
    let y: Vec<f64> = table.column(y)?.into_iter().map(|value| value / unit).collect();
    let rows = y.len();
    let classes =
        if family.is_categorical() { y.iter().fold(0.0, |a: f64, b| a.max(*b)) as usize + 1 } else { 1 };
    let target = if family.is_categorical() {
        Tensor::new(y.iter().map(|&class| class as i32).collect::<Vec<i32>>())
    } else {
        Tensor::new(y.clone())
    };
    let network = Mlp::new(&[&[1], *hidden, &[classes]].concat(), Activation::Tanh);
    let parameters = device.variables(&layers::named(&network.parameters(Key::new(5))?))?;
    let places = places(&x);
    let [eta, there] = [&x, &places].map(|at| {
        let output = network.forward(&parameters.views(), &standardized(at, &x));
        if family.is_categorical() { output } else { output.squeeze(-1) }
    });

    let step = train(device, family, &eta, &target, &parameters)?;
    let deviance = || -> Result<f64, Error> {
        let eta = Tensor::new(device.read(&eta)?);
        Reference::new().evaluate(&[&family.deviance_at(&target, &eta).sum(..)])?[0].scalar()
    };
    let before = deviance()?;
    for _ in 0..steps {
        step.launch(&[])?;
    }
    let (after, null) = (deviance()?, null_deviance(family, &y, &target, classes)?);
    let means = device.read(&family.mean(&there))?.to_f64();
    Ok(Told { name, rows, null, before, after, places, means, x, y })
}

/// A column with mean 0 and standard deviation 1, as the column `of` has them.
fn standardized(values: &[f64], of: &[f64]) -> Tensor {
    let n = of.len() as f64;
    let mean = of.iter().sum::<f64>() / n;
    let scale = (of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let standard: Vec<f64> = values.iter().map(|x| (x - mean) / scale).collect();
    Tensor::from_values(standard, [values.len(), 1])
}

/// The model of which only the mean of all targets is known.
fn null_deviance(family: &Family, y: &[f64], target: &Tensor, classes: usize) -> Result<f64, Error> {
    let rows = y.len();
    let share = |class: usize| y.iter().filter(|&&label| label == class as f64).count() as f64 / rows as f64;
    let mean = if family.is_categorical() {
        Tensor::new((0..classes).map(share).collect::<Vec<f64>>()).broadcast_to([rows, classes])
    } else {
        Tensor::full([rows], y.iter().sum::<f64>() / rows as f64)
    };
    Reference::new().evaluate(&[&family.deviance(target, &mean).sum(..)])?[0].scalar()
}

/// From the least to the largest.
fn places(x: &[f64]) -> Vec<f64> {
    let (low, high) = ends(x);
    (0..PLACES).map(|i| low + (high - low) * i as f64 / (PLACES - 1) as f64).collect()
}

fn ends(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

/// A line of the table that `docs/who-needs-a-loss.md` shows.
pub(crate) fn line(Told { name, rows, null, before, after, .. }: &Told) -> String {
    let explained = 100.0 * (1.0 - after / null);
    format!("| {name} | {rows} | {null:.1} | {before:.1} | {after:.1} | {explained:.1} % |")
}

// --- Pictures ---------------------------------------------------------------------------------------------------

/// Writes a picture for each family, and one for the links of the Bernoulli family.
fn draw(told: &[Told], folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let problem = |cause: std::io::Error| Error::new(Code::File, "who_needs_a_loss", cause.to_string());
    std::fs::create_dir_all(folder).map_err(problem)?;
    let mut paths = Vec::new();
    for (name, picture) in pictures(told) {
        let path = folder.join(format!("who-needs-a-loss-{name}.svg"));
        std::fs::write(&path, picture).map_err(problem)?;
        paths.push(path);
    }
    Ok(paths)
}

/// Names and pictures.
pub(crate) fn pictures(told: &[Told]) -> Vec<(&'static str, String)> {
    let mut pictures = Vec::new();
    for story in told {
        let picture = match story.name {
            "gaussian" => {
                curve(story, "gaussian: what area have cell nuclei?", ["mean radius", "mean area, hundreds"])
            }
            "poisson" => curve(
                story,
                "poisson: how often does one see a doctor?",
                ["index of chronic diseases", "visits in a year, means of groups"],
            ),
            "gamma_log" => curve(
                story,
                "gamma, log: how uncertain is the area?",
                ["mean radius of cell nuclei", "standard error of their area"],
            ),
            "categorical" => areas(story),
            "cloglog" => links(told, story),
            _ => continue,
        };
        pictures.push((if story.name == "cloglog" { "links" } else { story.name }, picture));
    }
    pictures
}

/// Rows, or means of groups of them, with the predicted mean.
fn curve(story: &Told, title: &str, labels: [&str; 2]) -> String {
    let (points, radius) = match story.rows {
        0..1000 => (story.x.iter().copied().zip(story.y.iter().copied()).collect(), 2.5),
        _ => (groups(story, 60), 4.0),
    };
    let curve: Vec<(f64, f64)> = story.places.iter().copied().zip(story.means.iter().copied()).collect();
    let (low, high) = ends(&points.iter().map(|point: &(f64, f64)| point.1).collect::<Vec<f64>>());
    let margin = 0.05 * (high - low);
    let mut chart = Chart::new(title, labels, widened(&story.x), [low - margin, high + margin]);
    chart.points("point", "data", radius, &points);
    let null = story.y.iter().sum::<f64>() / story.rows as f64;
    chart.curve("null", "null model", &[(story.places[0], null), (story.places[PLACES - 1], null)]);
    chart.curve("first", "network, trained without a loss", &curve);
    chart.finish()
}

/// Means of as many groups of rows with neighboring values.
fn groups(story: &Told, count: usize) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..story.rows).collect();
    order.sort_by(|&a, &b| story.x[a].total_cmp(&story.x[b]));
    let mean =
        |values: &[f64], rows: &[usize]| rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64;
    order
        .chunks(story.rows.div_ceil(count))
        .map(|rows| (mean(&story.x, rows), mean(&story.y, rows)))
        .collect()
}

fn widened(values: &[f64]) -> [f64; 2] {
    let (low, high) = ends(values);
    let margin = 0.02 * (high - low);
    [low - margin, high + margin]
}

/// Probabilities of classes, one on top of the other, with observed shares as points.
fn areas(story: &Told) -> String {
    const NAMES: [&str; 7] = [
        "strong Democrat",
        "Democrat",
        "leans Democrat",
        "independent",
        "leans Republican",
        "Republican",
        "strong Republican",
    ];
    const AREAS: [&str; 7] = ["area0", "area1", "area2", "area3", "area4", "area5", "area6"];
    let labels = ["where respondents place themselves: 1 very liberal … 7 very conservative", "share"];
    let (low, high) = ends(&story.x);
    let mut chart =
        Chart::new("categorical: which party does one identify with?", labels, [low, high], [0.0, 1.0]);
    let classes = NAMES.len();
    let below = |class: usize| -> Vec<(f64, f64)> {
        let share = |row: &[f64]| row[..class].iter().sum::<f64>().min(1.0);
        story.places.iter().copied().zip(story.means.chunks(classes).map(share)).collect()
    };
    for (class, (name, area)) in NAMES.iter().zip(AREAS).enumerate() {
        let (lower, upper) = (below(class), below(class + 1));
        // The text stands where the class is widest, away from the ends.
        let widest = (15..PLACES - 15)
            .max_by(|&a, &b| (upper[a].1 - lower[a].1).total_cmp(&(upper[b].1 - lower[b].1)));
        let at = widest.unwrap_or(PLACES / 2);
        let place = (upper[at].0, 0.5 * (lower[at].1 + upper[at].1) - 0.015);
        chart.area(area, (name, place), &lower, &upper);
    }
    let mut shares = Vec::new();
    for answer in low as i32..=high as i32 {
        let rows: Vec<usize> = (0..story.rows).filter(|&row| story.x[row] == f64::from(answer)).collect();
        for class in 1..classes {
            let count = rows.iter().filter(|&&row| story.y[row] < class as f64).count();
            shares.push((f64::from(answer), count as f64 / rows.len() as f64));
        }
    }
    chart.points("share", "observed shares", 3.0, &shares);
    chart.finish()
}

/// Two links of one family.
fn links(told: &[Told], cloglog: &Told) -> String {
    let labels = ["mean radius of cell nuclei", "probability of being benign"];
    let mut chart = Chart::new("bernoulli: logit and cloglog", labels, widened(&cloglog.x), [-0.03, 1.03]);
    chart.points("point", "means of groups", 4.0, &groups(cloglog, 40));
    for (class, name) in [("first", "logit"), ("second", "cloglog")] {
        let story = told.iter().find(|story| story.name == name);
        let curve =
            story.map(|story| story.places.iter().copied().zip(story.means.iter().copied()).collect());
        chart.curve(class, name, &curve.unwrap_or_else(Vec::new));
    }
    chart.finish()
}
