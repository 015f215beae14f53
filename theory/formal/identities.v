(* Identities between polynomials, by Coq's [ring]: operations are given names that it knows again. *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Coq Require Import Ring.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

Section Identities.
Variable R : comRingType.
Let T : Type := R.
Let add (x y : T) : T := (x : R) + y.
Let mul (x y : T) : T := (x : R) * y.
Let opp (x : T) : T := - (x : R).
Let zero : T := 0 : R.
Let one : T := 1 : R.
Lemma ring_of : ring_theory zero one add mul (fun x y => add x (opp y)) opp eq.
Proof.
split=> [x|x y|x y z|x|x y|x y z|x y z||x] //; first exact: add0r; first exact: addrC; first exact: addrA;
  [exact: mul1r | exact: mulrC | exact: mulrA | exact: mulrDl | exact: subrr].
Qed.
Add Ring ring_of_R : ring_of.
Ltac named t :=
  lazymatch t with
  | GRing.add ?a ?b => let a' := named a in let b' := named b in constr:(add a' b')
  | GRing.mul ?a ?b => let a' := named a in let b' := named b in constr:(mul a' b')
  | GRing.opp ?a => let a' := named a in constr:(opp a')
  | GRing.zero _ => constr:(zero)
  | GRing.one _ => constr:(one)
  | _ => constr:(t : T)
  end.
Ltac polynomials := rewrite ?exprS ?expr0 ?mulr1; match goal with |- @eq _ ?a ?b =>
  let a' := named a in let b' := named b in change (@eq T a' b') end; ring.

Lemma mix_identity (p q x y : R) :
  (p + q) * (p * x ^+ 2 + q * y ^+ 2) - (p * x + q * y) ^+ 2 = p * q * (x - y) ^+ 2.
Proof. polynomials. Qed.
Lemma mix_parts (a p q r x : R) : p * (a * r + (p + q) * r ^+ 2) + q * (a * r + (p + q) * x) =
  (p + q) * (a * r + (p * r ^+ 2 + q * x)).
Proof. polynomials. Qed.
Lemma cube_identity (a b r x : R) : (a * r + b * r ^+ 3) ^+ 2 - (a * r + b * x) ^+ 2 =
  a * b * (r * (r ^+ 3 - x)) *+ 2 + b ^+ 2 * ((r ^+ 3) ^+ 2 - x ^+ 2).
Proof. rewrite mulr2n; polynomials. Qed.
Lemma loss_identity (a r : R) : (1 + a) * (r ^+ 2 - (a * r + (1 - a) * r ^+ 2) ^+ 2) - (1 - a) * (r ^+ 2 * (1 - r ^+ 2)) =
  r ^+ 2 * ((1 - r) * ((1 - a) * (a * ((1 + 1) + a * (1 - r))))).
Proof. polynomials. Qed.
Lemma tangent_identity (p q : R) : p * p - (p + (p - q)) * q = (p - q) ^+ 2.
Proof. polynomials. Qed.
Lemma middle_identity (x s : R) : x * (1 - x) - s * (1 - s) = (x - s) * (1 - s - x).
Proof. polynomials. Qed.
Lemma two_identity (x y r : R) : x * (x + r * y) + y * (r * x + y) = (x + r * y) ^+ 2 + (1 - r ^+ 2) * y ^+ 2.
Proof. polynomials. Qed.
(* x^T C x for x = e_k + t (e_i - z e_j) and C i j = z; p = C i k, q = C j k *)
Lemma classes_identity (t z p q : R) : 1 + t * p - t * z * q + t * (p + t - t * z * z) - t * z * (q + t * z - t * z) =
  1 + (t * (p - z * q)) *+ 2 + t * t * (1 - z * z).
Proof. rewrite mulr2n; polynomials. Qed.
Lemma swing_identity (r h m : R) : r * (r - (h - (1 - m) ^+ 2)) - ((1 + m ^+ 2 - h) * r - m ^+ 2) = (r - m) ^+ 2.
Proof. polynomials. Qed.
Lemma ratio_identity (p k a d : R) : p * k * a * ((1 + 1) * d) = (1 + 1) * a * (p * d) * k.
Proof. polynomials. Qed.
End Identities.
