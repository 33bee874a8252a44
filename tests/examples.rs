//! What the examples say about real data, on the CPU device and with less work where that is enough.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, unreachable_pub, reason = "programs that are tested in part")]

#[path = "../examples/robust_regression.rs"]
mod robust_regression;
#[path = "../examples/visits.rs"]
mod visits;
#[path = "../examples/who_needs_a_loss.rs"]
mod who_needs_a_loss;

use std::path::Path;

use cotangent::glm::{self, Options, Problem};
use cotangent::io::Table;
use cotangent::prelude::*;

/// The page shows percentages with one digit. Another processor rounds a trajectory differently, so the last digit may be the next.
const DIGIT: f64 = 0.1;

#[test]
fn the_page_without_a_loss_shows_what_its_example_measures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/who-needs-a-loss.md")).unwrap();
    let stories = who_needs_a_loss::stories().unwrap();
    let steps = who_needs_a_loss::STEPS;
    let told = stories.map(|story| who_needs_a_loss::tell(&Device::cpu(), &story, steps).unwrap());
    for story in &told {
        let found = page.lines().find(|line| line.starts_with(&format!("| {} |", story.name)));
        let cells =
            |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
        let (found, expected) = (cells(found.unwrap()), cells(&who_needs_a_loss::line(story)));
        // Rows, and the deviance of the null model, which nothing was trained for.
        assert_eq!(found[2..4], expected[2..4], "{story:?}");
        let explained = |cells: &[String]| cells[6].trim_end_matches(" %").parse::<f64>().unwrap();
        assert!((explained(&found) - explained(&expected)).abs() <= 1.5 * DIGIT, "{found:?}, {expected:?}");
        assert!(story.after < story.null && story.after < story.before, "{}", story.name);
    }
    assert_eq!(told.len(), 6);
    let pictures = who_needs_a_loss::pictures(&told);
    assert_eq!(pictures.len(), 5);
    for (name, picture) in pictures {
        let path = format!("img/who-needs-a-loss-{name}.svg");
        let drawn = std::fs::read_to_string(root.join("docs").join(&path)).unwrap();
        assert!(page.contains(&format!("({path})")), "{path} is on the page");
        // The same marks; places differ by roundings of the training.
        let marks = |svg: &str| {
            svg.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(marks(&drawn), marks(&picture), "{path} is drawn anew by the example");
    }
}

/// Maximum likelihood by Newton's method on the likelihood, and by Adam without one.
#[test]
fn training_without_a_loss_arrives_at_maximum_likelihood() {
    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/breast_cancer.csv")).unwrap();
    let features = ["mean_radius".to_owned()];
    let problem = Problem::from_table(&table, "target", Some(&features), None, None).unwrap();
    let mut compared = 0;
    for story in who_needs_a_loss::stories().unwrap() {
        let Some(link) = [Link::Logit, Link::Cloglog].into_iter().find(|link| link.name() == story.name)
        else {
            continue;
        };
        let told = who_needs_a_loss::tell(&Device::cpu(), &story, 2000).unwrap();
        let family = Family::bernoulli().with_link(link).unwrap();
        let fit = glm::fit(&Device::cpu(), &family, &problem, &Options::default(), &mut |_, _| {}).unwrap();
        // The distance that the command line may have from references.
        assert!(
            (told.after / fit.deviance - 1.0).abs() <= 1e-5,
            "{}: {}, {}",
            told.name,
            told.after,
            fit.deviance
        );
        compared += 1;
    }
    assert_eq!(compared, 2);
}

#[test]
fn spoiled_rows_do_not_move_what_a_bounded_loss_finds() {
    assert!(robust_regression::check().unwrap() >= 32);
    let fits = robust_regression::compare(&Device::cpu()).unwrap();
    let moved = |loss: &str| fits.iter().find(|fit| fit.loss == loss).unwrap().moved;
    assert!(moved("mse") > 10.0, "{}", moved("mse"));
    assert!(moved("huber") < moved("mse") && moved("student") < moved("huber"), "{fits:?}");
    // Less than the tenth part of what chance moves.
    assert!(moved("student") < 0.1 && moved("barron") < 0.1, "{fits:?}");
    assert_eq!(fits.len(), 4);
}

#[test]
fn a_network_knows_the_visits_of_known_people_better_than_a_linear_model() {
    let found = visits::compare(&Device::cpu(), 1, 200).unwrap();
    let [poisson, linear, network] = &found.judged;
    assert!(found.rows > 4000 && found.alpha > 0.0);
    let (gain, _) = visits::gain(linear, network);
    assert!(gain > 0.0 && network.log_likelihood > linear.log_likelihood, "{found:?}");
    assert!(poisson.deviance.is_finite() && network.poisson_deviance < linear.poisson_deviance);
    // What validation rows decided has no part in the rows that are judged.
    assert!(found.best_epoch <= found.epochs && found.epochs <= 200);
}

#[test]
fn the_readme_lists_every_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let files = std::fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> =
        files.filter_map(|file| Some(file.to_str()?.strip_suffix(".rs")?.to_owned())).collect();
    for name in &names {
        assert!(readme.contains(&format!("| [`{name}`](examples/{name}.rs) |")), "{name}");
    }
    assert!(names.len() >= 9, "{names:?}");
}
